"""Strangers in numbers: a million forged tokens, a hundred thousand hostile posts, twenty thousand posts of each class."""

import asyncio

import pytest

from tests.unit.web.conftest import parts, published, reader  # noqa: F401
from tests.unit.web.test_hostile import accepted_of, kept, open_site, posted  # noqa: F401
from tests.unit.web.test_timing import fast, posts  # noqa: F401
from tests.unit.web.timing import NOTHING, measured

pytestmark = pytest.mark.long


@pytest.mark.timeout(1200)
def test_none_of_a_million_forged_tokens_is_taken():
    assert accepted_of(1_000_000) == 0


@pytest.mark.timeout(3600)
def test_a_hundred_thousand_hostile_posts_change_nothing(open_site, parts, reader):  # noqa: F811
    before = kept(parts)
    assert posted(open_site, parts, reader, 100_000) == []
    assert kept(parts) == before


@pytest.mark.timeout(3600)
def test_twenty_thousand_answers_to_each_class_of_address_take_the_same_time(fast, parts):  # noqa: F811
    assert asyncio.run(measured(posts(fast, parts), 20_000)) < NOTHING
