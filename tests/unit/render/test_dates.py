"""Date ranges in three languages, each expected string written by hand."""

import datetime as dt

import pytest

from service.domain.errors import InvalidInputError
from service.domain.weeks import Week
from service.render.dates import date_and_time, date_range, direction, long_date, week_range

# Twelve weeks that lie inside one month, one in each month of 2019.
WITHIN = [
    ("2019-W03", "January 14–20, 2019", "14–20 студзеня 2019", "14–20 января 2019 г."),
    ("2019-W07", "February 11–17, 2019", "11–17 лютага 2019", "11–17 февраля 2019 г."),
    ("2019-W11", "March 11–17, 2019", "11–17 сакавіка 2019", "11–17 марта 2019 г."),
    ("2019-W15", "April 8–14, 2019", "8–14 красавіка 2019", "8–14 апреля 2019 г."),
    ("2019-W19", "May 6–12, 2019", "6–12 мая 2019", "6–12 мая 2019 г."),
    ("2019-W24", "June 10–16, 2019", "10–16 чэрвеня 2019", "10–16 июня 2019 г."),
    ("2019-W28", "July 8–14, 2019", "8–14 ліпеня 2019", "8–14 июля 2019 г."),
    ("2019-W33", "August 12–18, 2019", "12–18 жніўня 2019", "12–18 августа 2019 г."),
    ("2019-W37", "September 9–15, 2019", "9–15 верасня 2019", "9–15 сентября 2019 г."),
    ("2019-W42", "October 14–20, 2019", "14–20 кастрычніка 2019", "14–20 октября 2019 г."),
    ("2019-W46", "November 11–17, 2019", "11–17 лістапада 2019", "11–17 ноября 2019 г."),
    ("2019-W50", "December 9–15, 2019", "9–15 снежня 2019", "9–15 декабря 2019 г."),
]
# Every border between two months that a week of 2018 to 2021 crosses.
ACROSS = [
    ("2019-W05", "January 28 – February 3, 2019", "28 студзеня – 3 лютага 2019", "28 января – 3 февраля 2019 г."),
    ("2019-W09", "February 25 – March 3, 2019", "25 лютага – 3 сакавіка 2019", "25 февраля – 3 марта 2019 г."),
    ("2020-W14", "March 30 – April 5, 2020", "30 сакавіка – 5 красавіка 2020", "30 марта – 5 апреля 2020 г."),
    ("2019-W18", "April 29 – May 5, 2019", "29 красавіка – 5 мая 2019", "29 апреля – 5 мая 2019 г."),
    ("2019-W22", "May 27 – June 2, 2019", "27 мая – 2 чэрвеня 2019", "27 мая – 2 июня 2019 г."),
    ("2020-W27", "June 29 – July 5, 2020", "29 чэрвеня – 5 ліпеня 2020", "29 июня – 5 июля 2020 г."),
    ("2019-W31", "July 29 – August 4, 2019", "29 ліпеня – 4 жніўня 2019", "29 июля – 4 августа 2019 г."),
    ("2019-W35", "August 26 – September 1, 2019", "26 жніўня – 1 верасня 2019", "26 августа – 1 сентября 2019 г."),
    (
        "2019-W40",
        "September 30 – October 6, 2019",
        "30 верасня – 6 кастрычніка 2019",
        "30 сентября – 6 октября 2019 г.",
    ),
    ("2019-W44", "October 28 – November 3, 2019", "28 кастрычніка – 3 лістапада 2019", "28 октября – 3 ноября 2019 г."),
    ("2019-W48", "November 25 – December 1, 2019", "25 лістапада – 1 снежня 2019", "25 ноября – 1 декабря 2019 г."),
]
YEARS = [
    (
        "2020-W01",
        "December 30, 2019 – January 5, 2020",
        "30 снежня 2019 – 5 студзеня 2020",
        "30 декабря 2019 г. – 5 января 2020 г.",
    ),
    (
        "2020-W53",
        "December 28, 2020 – January 3, 2021",
        "28 снежня 2020 – 3 студзеня 2021",
        "28 декабря 2020 г. – 3 января 2021 г.",
    ),
]


@pytest.mark.parametrize(("week", "en", "be", "ru"), WITHIN + ACROSS + YEARS)
def test_a_week_reads_as_a_native_writes_it(week, en, be, ru):
    of = Week.parse(week)
    assert (week_range(of, "en"), week_range(of, "be"), week_range(of, "ru")) == (en, be, ru)


@pytest.mark.parametrize("language", ["en", "be", "ru", "pl", "uk", "de"])
def test_no_range_holds_a_space_that_mail_fonts_lack(language):
    for number in range(1, 53):
        assert not {"\u2009", "\u202f"} & set(week_range(Week(2019, number), language))


def test_one_day_is_no_range():
    day = dt.date(2019, 6, 2)
    assert date_range(day, day, "ru") == long_date(day, "ru") == "2 июня 2019 г."
    assert (long_date(day, "be"), long_date(day, "en")) == ("2 чэрвеня 2019", "June 2, 2019")


def test_a_moment_is_told_in_the_publications_time():
    moment = dt.datetime(2019, 6, 3, 6, 0, tzinfo=dt.UTC)
    assert date_and_time(moment, "be", "Europe/Minsk") == "3 чэрвеня 2019, 09:00"
    with pytest.raises(InvalidInputError, match="time zone"):
        date_and_time(moment.replace(tzinfo=None), "be", "Europe/Minsk")
    with pytest.raises(InvalidInputError, match="Europe/Nowhere"):
        date_and_time(moment, "be", "Europe/Nowhere")


@pytest.mark.parametrize("language", ["", "qqq", "be_BY!", "../be"])
def test_an_unknown_language_is_refused_by_name(language):
    with pytest.raises(InvalidInputError, match="BCP 47"):
        long_date(dt.date(2019, 6, 2), language)


def test_direction_comes_from_the_language():
    assert (direction("be"), direction("ar")) == ("ltr", "rtl")
