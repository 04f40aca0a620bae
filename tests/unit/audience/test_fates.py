"""What several logs of departures say of an address, whichever is read first."""

from itertools import permutations

import pytest

from service.audience.fates import fates
from service.domain.subscriber import SuppressionReason
from service.domain.weeks import Week
from service.store.departures import Departure, Step

ANN, BOB = b"a" * 32, b"b" * 32


def lines(told, address_hash=ANN):
    """`20 unsubscribed, 22 confirmed` as a log."""
    pairs = (one.split() for one in told.split(", ") if one)
    return [Departure(Week(2019, int(week)), Step(step), address_hash) for week, step in pairs]


def fate(*logs):
    return fates([lines(told) for told in logs])[ANN]


def said(found):
    """The fate in words: what is in force, and since when."""
    words = [f"{name} {week.number}" for name, week in (("left", found.left), ("gone", found.erased)) if week]
    if found.suppression:
        reason, week = found.suppression
        words.append(f"{reason} {week.number}")
    return ", ".join(words)


@pytest.mark.parametrize(
    ("told", "then"),
    [
        ("20 unsubscribed", "left 20"),
        ("20 unsubscribed, 20 confirmed", ""),
        ("20 confirmed, 20 unsubscribed", "left 20"),
        ("20 erased", "gone 20, erased 20"),
        ("20 erased, 21 confirmed", ""),
        # Whoever was erased is not brought back by it that the address may be mailed again.
        ("20 erased, 21 lifted", "gone 20"),
        ("20 bounced, 21 lifted", ""),
        ("20 unsubscribed, 21 operator, 22 lifted", "left 20"),
        # What an operator alone may lift is not lifted by a confirmation, and is not weakened by an erasure.
        ("20 complained, 21 confirmed", "complained 20"),
        ("20 complained, 21 erased", "gone 21, complained 20"),
        ("20 complained, 21 bounced, 22 lifted", ""),
        ("20 bounced, 25 erased", "gone 25, erased 25"),
        # A clock that was wrong: within a log the order counts.
        ("25 confirmed, 20 unsubscribed", "left 20"),
    ],
)
def test_within_one_log_the_order_counts(told, then):
    assert said(fate(told)) == then


@pytest.mark.parametrize(
    ("logs", "then"),
    [
        (["20 bounced", "30 confirmed"], ""),
        (["20 unsubscribed", "21 confirmed"], ""),
        # In one week nobody can say which came first.
        (["20 unsubscribed", "20 confirmed"], "left 20"),
        (["20 erased", "20 confirmed"], "gone 20, erased 20"),
        (["20 bounced", "20 lifted"], "bounced 20"),
        (["20 unsubscribed, 20 confirmed", "20 unsubscribed"], "left 20"),
        (["20 unsubscribed", "19 confirmed"], "left 20"),
        (["20 unsubscribed, 30 unsubscribed", "25 confirmed"], "left 30"),
        (["20 unsubscribed", "25 confirmed, 30 unsubscribed"], "left 30"),
        (["20 unsubscribed, 30 confirmed", "25 unsubscribed"], ""),
        (["20 operator", "30 confirmed"], "operator 20"),
        (["20 operator", "25 lifted, 30 confirmed"], ""),
        (["20 erased", "25 lifted"], "gone 20"),
        (["20 bounced", "25 lifted", "30 complained"], "complained 30"),
        (["20 unsubscribed", "21 unsubscribed", "22 confirmed"], ""),
        (["20 complained", "22 lifted", "25 bounced"], "bounced 25"),
        (["20 bounced", "22 bounced"], "bounced 22"),
        (["20 unsubscribed", ""], "left 20"),
    ],
)
def test_of_another_log_only_a_later_week_undoes_a_departure(logs, then):
    for ordered in permutations(logs):
        assert said(fate(*ordered)) == then


def test_addresses_have_fates_of_their_own():
    found = fates([lines("20 unsubscribed") + lines("20 erased", BOB), lines("30 confirmed", BOB)])
    assert {known: said(one) for known, one in found.items()} == {ANN: "left 20", BOB: ""}
    assert [one.departed for one in found.values()] == [True, False]


def test_the_same_log_twice_changes_nothing():
    told = "20 unsubscribed, 21 confirmed, 22 complained, 23 lifted, 24 bounced"
    assert said(fate(told, told)) == said(fate(told)) == "bounced 24"
    assert fate(told).suppression == (SuppressionReason.BOUNCED, Week(2019, 24))
