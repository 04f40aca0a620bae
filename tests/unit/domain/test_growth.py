import pytest

from service.domain.growth import Change, change_of
from service.domain.subscriber import SubscriberStatus as Status

EVERY = [None, *Status]


@pytest.mark.parametrize("before", EVERY)
@pytest.mark.parametrize("after", EVERY)
def test_what_is_counted_is_what_becomes_of_the_active_readers(before, after):
    change = change_of(before, after)
    difference = (after is Status.ACTIVE) - (before is Status.ACTIVE)
    assert (change.sign if change else 0) == difference


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Status.ACTIVE, Status.UNSUBSCRIBED, Change.LEFT),
        (Status.ACTIVE, Status.COMPLAINED, Change.LEFT),
        (Status.ACTIVE, None, Change.LEFT),
        (Status.ACTIVE, Status.BOUNCED, Change.BOUNCED),
        (Status.BOUNCED, Status.ACTIVE, Change.LIFTED),
        (None, Status.ACTIVE, Change.ADDED),
        (Status.UNSUBSCRIBED, Status.ACTIVE, Change.ADDED),
        (Status.PENDING, Status.UNSUBSCRIBED, None),
        (Status.BOUNCED, None, None),
    ],
)
def test_each_way_has_its_name(before, after, expected):
    assert change_of(before, after) is expected
