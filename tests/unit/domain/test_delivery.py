"""Every cell of the table of a delivery's states."""

import itertools

import pytest

from service.domain.delivery import FINAL, UNFINISHED, DeliveryEvent, DeliveryState, after

S, E = DeliveryState, DeliveryEvent

# By state: what each event that means anything leads to. All others change nothing.
TABLE = {
    S.PENDING: {
        E.GATED: S.ATTEMPTING, E.SKIPPED: S.SKIPPED, E.CANCELLED: S.SKIPPED, E.GIVEN_UP: S.EXPIRED,
    },
    S.ATTEMPTING: {
        E.UNSENT: S.PENDING, E.ACCEPTED: S.ACCEPTED, E.DEFERRED: S.DEFERRED, E.REFUSED: S.REFUSED,
        E.LOST_TRACK: S.UNCERTAIN, E.GIVEN_UP: S.EXPIRED,
    },
    S.ACCEPTED: {},
    S.DEFERRED: {
        E.DUE: S.PENDING, E.RETRIED: S.PENDING, E.GIVEN_UP: S.EXPIRED, E.CANCELLED: S.SKIPPED, E.SKIPPED: S.SKIPPED,
    },
    S.REFUSED: {E.RETRIED: S.PENDING},
    S.UNCERTAIN: {
        E.UNSENT: S.PENDING, E.ACCEPTED: S.ACCEPTED, E.DEFERRED: S.DEFERRED, E.REFUSED: S.REFUSED,
        E.RESOLVED_ACCEPTED: S.ACCEPTED, E.RESOLVED_REFUSED: S.REFUSED, E.RESOLVED_RESEND: S.PENDING,
    },
    S.SKIPPED: {E.RETRIED: S.PENDING},
    S.EXPIRED: {E.RETRIED: S.PENDING},
}  # fmt: skip


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)))
def test_cell(state, event):
    assert after(state, event) is TABLE[state].get(event)


def test_a_retry_never_touches_what_may_have_arrived():
    assert after(S.ACCEPTED, E.RETRIED) is after(S.UNCERTAIN, E.RETRIED) is after(S.ATTEMPTING, E.RETRIED) is None


def test_states_are_final_or_not_and_their_numbers_are_those_in_the_database():
    assert frozenset(S) == FINAL | UNFINISHED
    assert not FINAL & UNFINISHED
    assert [state.label for state in S] == [
        "pending", "attempting", "accepted", "deferred", "refused", "uncertain", "skipped", "expired",
    ]  # fmt: skip
    assert [int(state) for state in S] == list(range(8))
