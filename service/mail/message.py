"""The MIME message of an edition or a notice, built once with the standard library, with markers for what differs.

Letters are never built here: `segments` cuts the template and joins it with each reader's values.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import SMTP, EmailPolicy
from typing import Any, TypeAlias

from service.domain.errors import InvalidInputError
from service.domain.slots import MARKERS, Slot
from service.mail.address import envelope_address, envelope_domain
from service.mail.segments import Rendition, Segments, compile_message
from service.mail.transfer import LINE_LIMIT, Encoded, Needle, base64, longest_line, seven_bit
from service.mail.words import mailbox_words, text_words

# Beside what ends a line: what turns the text around shows a name or a subject that was not written.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ENCODED_WORD = re.compile(r"=\?[^?]*\?[bBqQ]\?")
_URL = re.compile(r"https?://[!-;=?-~]+")
_TAG = re.compile(r"[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*")
_CID = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+")
_SUBTYPE = re.compile(r"[a-z0-9.+-]+")
_FEEDBACK = re.compile(r"[A-Za-z0-9._-]+(:[A-Za-z0-9._-]+){1,3}")

# What a machine reads must not turn into encoded words: one-click unsubscribing would die.
_ENCODING = frozenset({"content-transfer-encoding"})  # there or not, by encoding
_MACHINE_READ = re.compile(r"list-|message-id$|feedback-id$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A display name, which may be empty, and an address."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class ListHeaders:
    """The headers of list mail (RFC 2369, 2919, 8058). The unsubscribe URL and mailto may hold the token's marker.

    `name` is shown by some clients; when it is not ASCII it is left out, because no encoded word may stand there.
    """

    id: str  # a domain-like name that never changes: weekly.example.org
    name: str
    unsubscribe_url: str
    unsubscribe_mailto: str | None
    help_url: str
    owner: str  # an address
    archive_url: str


@dataclass(frozen=True, slots=True)
class Letterhead:
    """The header of every letter of one edition, or of a notice, which has no `list_headers`."""

    sender: Mailbox
    subject: str
    content_language: str
    reply_to: Mailbox | None = None
    list_headers: ListHeaders | None = None
    feedback_id: str | None = None


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image that the HTML names as `cid:` + `cid`."""

    cid: str
    subtype: str  # png, jpeg, gif, webp
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Body:
    """What a reader reads, in both forms, with token markers in place; without `html` the mail is text alone."""

    html: str
    text: str
    images: tuple[InlineImage, ...] = ()


def issue_rendition(letterhead: Letterhead, body: Body) -> Rendition:
    """The frozen rendition of an edition, in both encodings.

    Raises `InvalidInputError` naming the header or part that cannot be mailed as it is.
    """
    if letterhead.list_headers is None:
        raise InvalidInputError("an issue needs its list headers: without them nobody can unsubscribe in one click")
    return _rendition(letterhead, body, _list_fields(letterhead.list_headers))


def notice_rendition(letterhead: Letterhead, body: Body) -> Rendition:
    """The rendition of one transactional mail: it says that no person wrote it (RFC 3834), and has no List headers."""
    if letterhead.list_headers is not None or letterhead.feedback_id is not None:
        raise InvalidInputError("a notice has neither list headers nor a Feedback-ID")
    return _rendition(letterhead, body, {"Auto-Submitted": "auto-generated"})


def _rendition(letterhead: Letterhead, body: Body, more: Mapping[str, str]) -> Rendition:
    fields = {**_fields(letterhead), **more}
    if body.images and not body.html:
        raise InvalidInputError("a mail of text alone has no images")
    parts = {"text": _octets("text", body.text)}
    if body.html:
        parts["html"] = _octets("HTML", body.html)
    narrow = _compile(fields, body.images, {name: seven_bit(part) for name, part in parts.items()})
    if max(map(longest_line, parts.values())) > LINE_LIMIT:
        return Rendition(eight_bit=None, seven_bit=narrow)
    wide = {name: Encoded("7bit" if part.isascii() else "8bit", part) for name, part in parts.items()}
    return Rendition(eight_bit=_compile(fields, body.images, wide), seven_bit=narrow)


def _octets(name: str, text: str) -> bytes:
    """`text` as UTF-8 with CRLF at the end of each line and of the whole."""
    if "\0" in text:
        raise InvalidInputError(f"the {name} of a mail holds a NUL character: remove it")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    try:
        return "\r\n".join([*lines, ""]).encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"the {name} of a mail holds half a character at {error.start}: remove it") from error


def _fields(letterhead: Letterhead) -> dict[str, str]:
    fields = {
        "From": _mailbox("From", letterhead.sender),
        "To": MARKERS[Slot.RECIPIENT],
        "Subject": text_words("Subject", _shown("Subject", letterhead.subject)),
        "Date": MARKERS[Slot.DATE],
        "Message-ID": MARKERS[Slot.MESSAGE_ID],
    }
    if letterhead.reply_to is not None:
        fields["Reply-To"] = _mailbox("Reply-To", letterhead.reply_to)
    if letterhead.feedback_id is not None:
        fields["Feedback-ID"] = _matching("Feedback-ID", letterhead.feedback_id, _FEEDBACK)
    fields["Content-Language"] = _matching("Content-Language", letterhead.content_language, _TAG)
    return fields


def _list_fields(headers: ListHeaders) -> dict[str, str]:
    unsubscribe = f"<{_matching('List-Unsubscribe', headers.unsubscribe_url, _URL)}>"
    if headers.unsubscribe_mailto is not None:
        unsubscribe += f", <mailto:{_address('List-Unsubscribe', headers.unsubscribe_mailto)}>"
    list_id = f"<{envelope_domain(headers.id)}>"
    name = _shown("List-Id", headers.name)
    if name and name.isascii():
        list_id = f'"{name}" {list_id}' if not name.replace(" ", "").isalnum() else f"{name} {list_id}"
    return {
        "List-Id": list_id,
        "List-Unsubscribe": unsubscribe,
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Help": f"<{_matching('List-Help', headers.help_url, _URL)}>",
        "List-Owner": f"<mailto:{_address('List-Owner', headers.owner)}>",
        "List-Archive": f"<{_matching('List-Archive', headers.archive_url, _URL)}>",
    }


def _mailbox(header: str, mailbox: Mailbox) -> str:
    return mailbox_words(header, _shown(header, mailbox.name), _address(header, mailbox.address))


def _address(header: str, address: str) -> str:
    try:
        checked = envelope_address(address)
    except InvalidInputError as error:
        raise InvalidInputError(f"{header}: {error}") from error
    if not checked.isascii():
        raise InvalidInputError(f"{header}: an address of the publication must be ASCII before the @")
    return checked


def _shown(header: str, text: str) -> str:
    """`text`, if no mail client and no bug of a header library can read more into it than its letters."""
    found = _FORBIDDEN.search(text)
    if found:
        raise InvalidInputError(f"{header}: character U+{ord(found[0]):04X} is not allowed in a header: remove it")
    if _ENCODED_WORD.search(text):
        raise InvalidInputError(f"{header}: write the text itself, not an encoded word (=?…?=)")
    if '"' in text and header == "List-Id":
        raise InvalidInputError(f"{header}: a quotation mark is not allowed in the name of a list")
    return text.strip()


def _matching(header: str, value: str, form: re.Pattern[str]) -> str:
    if not form.fullmatch(value) or _ENCODED_WORD.search(value):
        raise InvalidInputError(f"{header}: {value!r} is not well formed")
    return value


class _Verbatim(EmailPolicy):
    """Writes header values as they were set.

    The folding of the standard library turns URLs above 76 characters into encoded words, makes those longer than RFC
    2047 allows when given room, and on 3.11 loses spaces between two of them.
    """

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        return name, value

    def header_fetch_parse(self, _name: str, value: Any) -> Any:
        return value

    def fold_binary(self, name: str, value: Any) -> bytes:
        return f"{name}: {value}\r\n".encode("ascii")


_POLICY = _Verbatim(linesep="\r\n", max_line_length=LINE_LIMIT)
_Part: TypeAlias = "Message[str, Any]"


def _compile(fields: Mapping[str, str], images: Sequence[InlineImage], parts: Mapping[str, Encoded]) -> Segments:
    """The segments of the message with these parts; checks that the message reads back as it was meant."""
    needles: list[Needle] = []
    for part in parts.values():
        needles += [needle for needle in part.needles if needle not in needles]
    wide = any(part.name == "8bit" for part in parts.values())
    fields = {**fields, "MIME-Version": "1.0"}
    if "html" not in parts:
        message = _text_part("plain", parts["text"], fields)
    else:
        html = _text_part("html", parts["html"])
        if images:
            html = _multipart({}, 'multipart/related; type="text/html"', [html, *map(_image_part, images)], wide=wide)
        content = [_text_part("plain", parts["text"]), html]
        message = _multipart(fields, "multipart/alternative", content, wide=wide)
    _set_boundaries(message, parts)
    template = message.as_bytes(policy=_POLICY)
    _check_headers(template, [*fields, "Content-Type"])
    return compile_message(template, needles)


def _multipart(fields: Mapping[str, str], kind: str, parts: Sequence[_Part], *, wide: bool) -> _Part:
    multipart = _part({**fields, "Content-Type": kind})
    if wide:  # RFC 2045 §6.4: what holds 8bit parts says so itself
        multipart["Content-Transfer-Encoding"] = "8bit"
    for part in parts:
        multipart.attach(part)
    return multipart


def _part(fields: Mapping[str, str]) -> _Part:
    part: _Part = Message(policy=_POLICY)
    for name, value in fields.items():
        part[name] = value
    return part


def _text_part(subtype: str, encoded: Encoded, fields: Mapping[str, str] | None = None) -> _Part:
    kind = f'text/{subtype}; charset="utf-8"'
    part = _part({**(fields or {}), "Content-Type": kind, "Content-Transfer-Encoding": encoded.name})
    part.set_payload(encoded.body.decode("ascii", "surrogateescape"))
    return part


def _image_part(image: InlineImage) -> _Part:
    part = _part(
        {
            "Content-Type": f"image/{_matching('image type', image.subtype, _SUBTYPE)}",
            "Content-Transfer-Encoding": "base64",
            "Content-Disposition": "inline",
            "Content-ID": f"<{_matching('Content-ID', image.cid, _CID)}>",
        }
    )
    part.set_payload(base64(image.octets).body.decode("ascii"))
    return part


def _set_boundaries(message: _Part, parts: Mapping[str, Encoded]) -> None:
    """Boundaries that follow from the content, so that the same edition always freezes to the same octets."""
    digest = hashlib.sha256(b"\0".join(part.body for part in parts.values())).hexdigest()[:32]
    multiparts = [part for part in message.walk() if part.is_multipart()]
    for number, part in enumerate(multiparts):
        part.set_boundary(f"=_{number}_{digest}")


def _check_headers(template: bytes, expected: Sequence[str]) -> None:
    """Read the message as a stranger would: exactly the expected headers, and machine-read ones as plain text."""
    names = [name.lower() for name in message_from_bytes(template, policy=SMTP) if name.lower() not in _ENCODING]
    if sorted(names) != sorted(map(str.lower, expected)):
        odd = set(names).symmetric_difference(map(str.lower, expected))
        raise InvalidInputError(f"the headers of a mail read back differently: {', '.join(sorted(odd))}")
    header = template[: template.index(b"\r\n\r\n")].replace(b"\r\n ", b" ")
    for line in header.decode("ascii").split("\r\n"):
        if _MACHINE_READ.match(line) and "=?" in line:
            raise InvalidInputError(f"the header {line.split(':')[0]} would hold an encoded word: make its text ASCII")
