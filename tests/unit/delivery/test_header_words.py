"""Whatever a field holds that reaches a header, the mail has the headers of any other and none more."""

import email
import email.policy
from dataclasses import replace

import pytest

from service.domain.errors import InvalidInputError
from service.mail.message import Body, Letterhead, Mailbox, notice_rendition
from service.render.notice import render_notice
from tests.unit.delivery.parts import PRESS
from tests.unit.mail.sending import values
from tests.unit.render.samples import BASE, made_edition, publication

# What ends a line for some reader of headers, and what shows a text in another order than it is written.
ENDS = ["\r\n", "\n", "\r", "\0", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\r\n\r\n"]
TURNS = [*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"]
LANGUAGES = ("en", "be", "ru")
CHARACTERS = pytest.mark.parametrize("character", [*ENDS, *TURNS], ids=lambda one: ascii(one)[1:-1])


def attack(character):
    return f"Weekly{character}Bcc: canary@evil.example{character}{character}<script>"


def message(rendition):
    octets = rendition.seven_bit.join(values(7, "r@example.net"))
    return email.message_from_bytes(octets, policy=email.policy.SMTP)


def printed(**changes):
    issue_changes = changes.pop("issue_changes", {})
    return PRESS.printed(made_edition("en", publication=publication(**changes), **issue_changes))[1]


def notice(kind, language, of_publication, **params):
    catalogues = PRESS.catalogues
    made = render_notice(kind, language, params, publication=of_publication, base_url=BASE, catalogues=catalogues)
    sender = Mailbox(of_publication.titles["en"], of_publication.sender)
    return notice_rendition(Letterhead(sender, made.subject, language), Body(made.html, made.text))


def assert_harmless(make, plain, character):
    """It is refused, or its headers are those of `plain` and nothing in them turns or ends a line."""
    try:
        made = message(make())
    except InvalidInputError:
        return
    assert made.keys() == message(plain).keys()
    for name in ("From", "Subject", "List-Id"):
        shown = str(made[name] or "")
        assert not set(character) & set(shown), name
        assert not shown.startswith("Bcc")


@CHARACTERS
@pytest.mark.parametrize(
    "field",
    [
        {"titles": dict.fromkeys(LANGUAGES)},
        {"subjects": dict.fromkeys(LANGUAGES)},
        {"issue_changes": {"subjects": {"en": None}}},
        {"sender": None},
        {"reply_to": None},
        {"list_id": None},
        {"base_url": None},
    ],
    ids=lambda field: next(iter(field)),
)
def test_no_field_of_a_publication_or_an_issue_adds_a_header(field, character):
    def filled(value):
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        return attack(character)

    assert_harmless(lambda: printed(**{key: filled(value) for key, value in field.items()}), printed(), character)


@CHARACTERS
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_title_or_problem_adds_a_header_to_a_notice(language, character):
    hostile = replace(publication(), titles=dict.fromkeys(LANGUAGES, attack(character)))
    token = {"tokens": {"confirm": "A" * 48, "preferences": "A" * 48, "unsubscribe": "A" * 48, "request": "A" * 48}}
    chain = {"chain": list(LANGUAGES)}
    for kind, params in {
        "confirm": chain | token,
        "reminder": chain | token,
        "welcome": chain | token | {"week": "2019-W22"},
        "goodbye": token,
        "move": chain | token,
        "moved": {},
        "request": token | {"purpose": "erase"},
    }.items():
        clean = notice(kind, language, publication(), **params)
        assert_harmless(lambda kind=kind, params=params: notice(kind, language, hostile, **params), clean, character)
    said = {"week": attack(character), "problem": attack(character)}
    clean = notice("mailing-trouble", language, publication(), week="2019-W22", problem="none")
    assert_harmless(lambda: notice("mailing-trouble", language, publication(), **said), clean, character)


def test_a_header_that_is_added_would_be_seen():
    plain = printed()
    with pytest.raises(AssertionError):
        assert_harmless(lambda: printed(reply_to="desk@weekly.example.org"), plain, "\n")
    with pytest.raises(AssertionError):
        assert_harmless(lambda: printed(titles=dict.fromkeys(LANGUAGES, attack("!"))), plain, "!")
