import pytest

from service.domain.weeks import Week
from service.editorial.dates_in_text import wrong_dates

WEEK = Week(2019, 22)


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "en",
            "On Tuesday, May 28th, and on May 28 (Tuesday). From May 27 to 31 May 2019. In May 1941 and 300 may come.",
        ),
        ("en", "29 February 2020, in May 2019"),
        ("be", "У аўторак, 28 мая, і ў сераду 29 мая. 31 мая, у пятніцу. 28-га мая"),
        ("ru", "Во вторник 28 мая и в среду, 29 мая. 31 мая, в пятницу. 28\u00a0мая 2019 г."),
    ],
)
def test_right_dates_are_passed(language, words):
    assert list(wrong_dates(words, language, WEEK)) == []


@pytest.mark.parametrize(
    ("language", "words", "message"),
    [
        ("en", "On Monday, May 28th", "is no Monday in 2019"),
        ("en", "28 May 2019, Wednesday", "is no Wednesday in 2019"),
        ("en", "31 June", "is no date"),
        ("en", "29 February 2019", "is no date"),
        ("be", "у сераду, 28 мая", "is no сераду in 2019"),
        ("be", "31 чэрвеня", "is no date"),
        ("ru", "28 мая, в пятницу", "is no пятницу in 2019"),
        ("ru", "во вторник 28 мая 2018 г.", "is no вторник in 2018"),
    ],
)
def test_wrong_dates_are_told(language, words, message):
    assert [message in told for _, told in wrong_dates(words, language, WEEK)] == [True]


def test_a_date_without_a_year_is_of_the_nearest_one():
    january, december = Week(2020, 2), Week(2019, 51)
    assert list(wrong_dates("Tuesday, December 31", "en", january)) == []
    assert list(wrong_dates("Wednesday, January 1", "en", december)) == []


def test_the_line_is_told():
    assert [line for line, _ in wrong_dates("one\ntwo 31 June\nthree", "en", WEEK)] == [2]
