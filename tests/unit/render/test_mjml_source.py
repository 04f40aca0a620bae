"""MJML templates are checked, because MJML itself passes mistakes in silence."""

import pytest

from service.domain.errors import ConfigurationError
from service.render.mjml_source import check_mjml, check_templates, to_html
from service.render.templates import FOLDER, load_templates

WRAP = "<mjml>\n<mj-body>\n{}\n</mj-body>\n</mjml>"


def found(source):
    return [str(finding) for finding in check_mjml(source, "x.mjml.j2")]


def test_the_templates_are_clean():
    assert check_templates(FOLDER) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<mj-sektion></mj-sektion>", "x.mjml.j2:3: <mj-sektion> is not used here: did you mean mj-section?"),
        (
            '<mj-text colour="red"></mj-text>',
            'x.mjml.j2:3: attribute "colour" of <mj-text> is passed over in silence: did you mean color?',
        ),
        (
            '<mj-include path="a" />',
            "x.mjml.j2:3: <mj-include> is not used here: it loses the container's width; use a Jinja include",
        ),
        ("<mj-html-attributes></mj-html-attributes>", "mjml-python raises on it"),
        ("<mj-social></mj-social>", "its icons load from a third party"),
        ('<mj-style inline="inline"></mj-style>', "mjml-python does not inline it"),
        ('<mj-attributes><mj-body width="1px" /></mj-attributes>', "<mj-body> in mj-attributes is ignored"),
        ('<mj-text font-family="Roboto, serif"></mj-text>', 'font "Roboto" makes MJML fetch a web font'),
        ("<mj-text>", "<mj-text> is never closed"),
        ("</mj-text>", "</mj-text> closes nothing that is open here"),
        ('{% if x %}\n{{ a["<mj-nothing>"] }}<mj-text x="y"></mj-text>{% endif %}', 'x.mjml.j2:4: attribute "x"'),
    ],
)
def test_a_mistake_is_reported_with_file_line_and_hint(source, expected):
    assert any(expected in message for message in found(WRAP.format(source))), found(WRAP.format(source))


def test_raw_at_the_root_is_refused():
    assert any("at the root raises" in message for message in found("<mjml><mj-raw></mj-raw></mjml>"))


def test_a_folder_with_a_mistake_is_not_loaded(tmp_path):
    (tmp_path / "edition").mkdir()
    (tmp_path / "edition/a.mjml.j2").write_text("<mj-image />")
    with pytest.raises(ConfigurationError, match=r"edition/a\.mjml\.j2:1: <mj-image> is not used here"):
        load_templates(tmp_path)


def test_mjml_that_cannot_be_read_names_its_template():
    with pytest.raises(ConfigurationError, match=r"body\.mjml\.j2 is not MJML"):
        to_html("<mjml><mj-body><mj-section></mj-body></mjml>", "body.mjml.j2")


def test_a_control_character_that_a_server_sent_stops_no_mail():
    source = "<mjml><mj-body><mj-section><mj-column><mj-text>454\x0c 4.7.0\x00 later</mj-text></mj-column></mj-section></mj-body></mjml>"
    assert "454 4.7.0 later" in to_html(source, "body.mjml.j2")


@pytest.mark.parametrize(
    "inside", ["<div>" * 50_000 + "x" + "</div>" * 50_000, "<p>word</p>" * 500_000], ids=["deep", "huge"]
)
def test_what_would_end_the_process_is_not_given_to_mjml(inside):
    source = (
        f"<mjml><mj-body><mj-section><mj-column><mj-text>{inside}</mj-text></mj-column></mj-section></mj-body></mjml>"
    )
    with pytest.raises(ConfigurationError, match=r"edition/issue\.mjml\.j2"):
        to_html(source, "edition/issue.mjml.j2")


def test_fonts_that_mjml_would_fetch_are_not_fetched():
    source = "<mjml><mj-head></mj-head><mj-body><mj-section><mj-column><mj-text>x</mj-text></mj-column></mj-section></mj-body></mjml>"
    assert "fonts.googleapis" not in to_html(source.replace("<mj-text>", '<mj-text font-family="Roboto">'), "x")
