"""A sample of orders of events, the same each time. `make simulate` goes through others, and more of them."""

from __future__ import annotations

import pytest

from tests.simulation import substitutes
from tests.simulation.orders import examine
from tests.simulation.templates import Shelf


@pytest.fixture(scope="module")
def shelf():
    with substitutes.substituted():
        yield Shelf()


def test_every_order_of_events_follows_the_tables(shelf):
    examine(shelf, examples=150, steps=30)
