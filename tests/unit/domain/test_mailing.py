"""Every cell of the table of a mailing's states."""

import itertools

import pytest
import typer.main

from service.cli.mailing import mailing
from service.domain.errors import ConflictError
from service.domain.mailing import SETTLED, MailingEvent, MailingState, after, require

S, E = MailingState, MailingEvent

# A row per state: what each event leads to; a blank is refused.
TABLE = """
             schedule   release   planned  pause   resume   finish  cancel     retry     resend
draft        scheduled  planning  -        -       -        -       cancelled  -    -
scheduled    -          planning  -        -       -        -       cancelled  -    -
planning     -          -         sending  -       -        -       cancelled  -    -
sending      -          -         -        paused  -        sent    cancelled  sending  sending
paused       -          -         -        -       sending  -       cancelled  paused  paused
sent         -          -         -        -       -        -       -          sending  sending
cancelled    -          -         -        -       -        -       -          sending  sending
"""


def cells():
    head, *rows = (line.split() for line in TABLE.strip().splitlines())
    for state, *following in rows:
        for event, leads_to in zip(head, following, strict=True):
            yield S(state), E(event), None if leads_to == "-" else S(leads_to)


def test_the_table_names_every_cell():
    assert {(state, event) for state, event, _ in cells()} == set(itertools.product(S, E))


@pytest.mark.parametrize(("state", "event", "leads_to"), list(cells()))
def test_cell(state, event, leads_to):
    assert after(state, event) is leads_to
    if leads_to is not None:
        assert require(7, state, event) is leads_to
        return
    with pytest.raises(ConflictError, match=f"mailing 7 is {state.value}: it cannot {event.value}"):
        require(7, state, event)


def test_a_refusal_says_what_can_be_done_instead():
    with pytest.raises(ConflictError, match=r"it can cancel or resume or retry$"):
        require(7, S.PAUSED, E.PAUSE)


@pytest.mark.parametrize(("state", "event"), [(state, event) for state, event, to in cells() if to is None])
def test_a_refusal_offers_only_what_is_a_command(state, event):
    with pytest.raises(ConflictError) as refused:
        require(7, state, event)
    _, _, offered = str(refused.value).partition("; it can ")
    commands = set(typer.main.get_command(mailing).commands)
    assert set(offered.split(" or ")) - {""} <= commands


def test_what_is_settled_goes_on_only_by_a_retry_or_a_resend():
    assert {S.SENT, S.CANCELLED} == SETTLED
    for state in SETTLED:
        assert {event for event in E if after(state, event)} <= {E.RETRY, E.RESEND}
