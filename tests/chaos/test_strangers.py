"""Strangers in numbers: a million forged tokens, a hundred thousand hostile posts, twenty thousand posts of each class."""

import asyncio

import pytest

from tests.unit.web.parts import add_reader, installed, open_to_all, store_issue
from tests.unit.web.test_hostile import accepted_of, kept, posted, visitor
from tests.unit.web.test_timing import Straight, posts
from tests.unit.web.timing import NOTHING, measured

pytestmark = pytest.mark.long


@pytest.fixture
def parts(sqlite_template, tmp_path, clock):
    with installed(sqlite_template, tmp_path, clock) as made:
        store_issue(made)
        yield made


@pytest.mark.timeout(1200)
def test_none_of_a_million_forged_tokens_is_taken():
    assert accepted_of(1_000_000) == 0


@pytest.mark.timeout(3600)
def test_a_hundred_thousand_hostile_posts_change_nothing(parts):
    reader = add_reader(parts)
    before = kept(parts)
    with visitor(open_to_all(parts)) as client:
        assert posted(client, parts, reader, 100_000) == []
    assert kept(parts) == before


@pytest.mark.timeout(3600)
def test_twenty_thousand_answers_to_each_class_of_address_take_the_same_time(parts):
    site = Straight(open_to_all(parts))
    assert asyncio.run(measured(posts(site, parts), 20_000)) < NOTHING
