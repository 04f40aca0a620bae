from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.chains import Chain, every_chain, is_language_code
from service.domain.errors import InvalidInputError

LANGUAGES = ("en", "be", "ru")
chains = st.permutations(LANGUAGES).flatmap(
    lambda order: st.integers(1, 3).map(lambda length: Chain(tuple(order[:length])))
)


@pytest.mark.parametrize(
    "text", ["be,ru", "be ru", "be|ru", "BE/RU", " Be ,\truI".replace("I", ""), "be;ru", "be, ru,"]
)
def test_every_way_of_writing_two_languages_is_the_same_chain(text):
    assert Chain.parse(text, LANGUAGES) == Chain(("be", "ru"))


@given(chains, st.sampled_from([",", " ", "|", "/", ";", ", ", "  "]), st.booleans())
def test_a_chain_that_is_written_is_read_as_it_was(chain, separator, upper):
    text = separator.join(chain.languages)
    assert Chain.parse(text.upper() if upper else text, LANGUAGES) == chain
    assert Chain.parse(str(chain), LANGUAGES) == chain


@given(st.text())
def test_any_other_text_is_refused_as_wrong_input_and_as_nothing_else(text):
    try:
        chain = Chain.parse(text, LANGUAGES, aliases=True)
    except InvalidInputError:
        return
    assert set(chain.languages) <= set(LANGUAGES)
    assert len(set(chain.languages)) == len(chain.languages) > 0


def test_the_country_counts_as_the_language_in_imports_alone():
    assert Chain.parse("by,ru", LANGUAGES, aliases=True) == Chain(("be", "ru"))
    with pytest.raises(InvalidInputError, match="Belarusian is be"):
        Chain.parse("by,ru", LANGUAGES)


@pytest.mark.parametrize("text", ["be,be", "by,be"])
def test_a_language_said_twice_is_refused(text):
    with pytest.raises(InvalidInputError, match="twice"):
        Chain.parse(text, LANGUAGES, aliases=True)


@pytest.mark.parametrize("text", ["", "  ", ",", "xx", "be,xx"])
def test_an_empty_chain_and_an_unknown_language_are_refused(text):
    with pytest.raises(InvalidInputError):
        Chain.parse(text, LANGUAGES)


def test_three_languages_give_fifteen_chains_shortest_first():
    made = every_chain(LANGUAGES)
    assert len(set(made)) == 15
    assert [len(chain.languages) for chain in made] == [1] * 3 + [2] * 6 + [3] * 6


@given(chains, st.sets(st.sampled_from([*LANGUAGES, "pl"])))
def test_what_is_shown_is_the_first_that_is_there_and_never_outside_the_chain(chain, available):
    shown = chain.shown(available)
    there = [language for language in chain.languages if language in available]
    assert shown == (there[0] if there else None)


def test_order_tells_chains_apart():
    assert len({Chain(order) for order in permutations(LANGUAGES)}) == 6


@pytest.mark.parametrize(
    ("code", "good"),
    [("be", True), ("be-tarask", True), ("sr-latn-rs", True), ("BE", False), ("b", False), ("a@b", False), ("", False)],
)
def test_a_language_code_is_written_like_a_tag(code, good):
    assert is_language_code(code) is good
