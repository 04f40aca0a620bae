"""Where a line of a page or a mail may not end."""

import pytest
from markupsafe import Markup

from service.render.templates import load_templates
from service.render.typography import bind, unbind, without_controls


@pytest.mark.parametrize(
    ("words", "bound"),
    [
        ("27 мая – 2 июня 2019 г.", "27_мая_– 2_июня 2019_г."),
        ("29 красавіка – 5 мая 2019", "29_красавіка_– 5_мая 2019"),
        ("Власть и институты", "Власть и_институты"),
        ("і з ёй у 2018 годзе", "і_з_ёй у_2018 годзе"),
        ("68 000 замежнікаў", "68_000 замежнікаў"),
        ("May 27 – June 2, 2019", "May 27 – June 2, 2019"),
        ("г. Минск", "г. Минск"),
        ("калі вы далі згоду, – але ні імя", "калі вы далі згоду,_– але ні імя"),
        ("(пачынаючы з першай) – і далей", "(пачынаючы з_першай)_– і_далей"),
    ],
)
def test_a_native_would_not_end_a_line_there(words, bound):
    assert bind(words) == bound.replace("_", "\u00a0")
    assert unbind(bind(words)) == words


def test_what_was_escaped_is_not_escaped_twice_and_the_rest_is():
    from jinja2 import DictLoader

    templates = load_templates()
    environment = templates._environment.overlay(loader=DictLoader({"x.html": "{{ words | bind }}"}))
    shown = environment.get_template("x.html").render
    assert shown(words="<b> і я") == "&lt;b&gt; і\u00a0я"
    assert shown(words=Markup("&lt;b&gt; і я")) == "&lt;b&gt; і\u00a0я"


@pytest.mark.parametrize(
    ("words", "held"),
    [
        ("15–21 красавіка 2019", "[15–21] красавіка 2019"),
        ("From May 6–12, 2019 to <b>", "From [May 6–12], 2019 to &lt;b&gt;"),
        ("May 27 – June 2, 2019", "[May 27] – [June 2], 2019"),
        ("December 31, 2018 – January 6, 2019", "[December 31], 2018 – [January 6], 2019"),
        ("Нумар 2019-W22 не адпраўлены", "Нумар [2019-W22] не адпраўлены"),
        ("15.–21. April 2019", "[15.–21.] April 2019"),
        ("27 мая – 2 чэрвеня 2019", "27 мая – 2 чэрвеня 2019"),
        (Markup("1–7 &lt; 8–14"), "[1–7] &lt; [8–14]"),
    ],
)
def test_no_line_breaks_a_range_between_its_numbers_a_day_from_its_month_or_the_name_of_a_week(words, held):
    from jinja2 import DictLoader

    sources = {"page.html": "{{ words | unbroken }}", "mail.mjml.j2": "{{ words | unbroken(inline=true) }}"}
    environment = load_templates()._environment.overlay(loader=DictLoader(sources))
    for name, how in (("page.html", 'class="unbroken"'), ("mail.mjml.j2", 'style="white-space:nowrap"')):
        shown = environment.get_template(name).render(words=words)
        assert shown == held.replace("[", f"<span {how}>").replace("]", "</span>")


def test_what_xml_may_not_hold_is_taken_out_and_nothing_else():
    assert without_controls("a\x00b\x0cc\x1bd\uffff\t\n é 🙂") == "abcd\t\n é 🙂"
