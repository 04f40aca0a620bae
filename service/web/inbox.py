"""The local inbox in the browser: the newest mails, for whoever sits at this machine. Not there when a relay is set."""

from __future__ import annotations

import base64
import email
import email.policy
import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, PlainTextResponse

from service.bootstrap import Services
from service.domain.errors import NotFoundError
from service.web.guard import POLICY
from service.web.pages import Parts, page

_NEWEST = 50
_NAME = re.compile(r"\d{20}\.\d+_\d+\.tydzen")
_CID = re.compile(r"cid:([^\"'\s)>]+)")
# The mail's own HTML: styles as it brings them, its attached images as data, and no script, form, frame or request.
_MAIL_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"


def at_this_machine(request: Request, parts: Parts) -> Services:
    """Only for a browser on this machine that asked for it by a local name: mails hold addresses."""
    host = request.client.host if request.client else ""
    named = request.url.hostname or ""
    local = named in {"localhost", parts.settings.web_host} or _is_loopback(named)
    if not (_is_loopback(host) and local):
        raise NotFoundError("the inbox is shown on its own machine only")
    return parts


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


Local = Annotated[Services, Depends(at_this_machine)]
router = APIRouter(prefix="/inbox")


@dataclass(frozen=True, slots=True)
class Line:
    """One mail in the list."""

    name: str
    subject: str
    recipient: str
    date: str
    language: str


@router.get("/")
def newest(request: Request, parts: Local) -> HTMLResponse:
    """The newest fifty mails."""
    folder = parts.settings.inbox_dir / "new"
    names = sorted((path.name for path in folder.glob("*.tydzen")), reverse=True) if folder.is_dir() else []
    lines = [_line(folder / name) for name in names[:_NEWEST]]
    return page(request, "inbox", publication=None, lines=lines, total=len(names), folder=str(folder))


@router.get("/{name}")
def mail(request: Request, name: str, parts: Local) -> HTMLResponse:
    """One mail: its headers, its HTML in a frame without rights, its text."""
    message = _message(parts, name)
    text = message.get_body(("plain",))
    values: dict[str, Any] = {
        "line": _line(_path(parts, name)),
        "headers": [(key, str(value)) for key, value in message.items()],
        "text": text.get_content() if isinstance(text, EmailMessage) else "",
        "has_html": message.get_body(("html",)) is not None,
    }
    answer = page(request, "inbox-mail", publication=None, **values)
    answer.headers["Content-Security-Policy"] = f"{POLICY}; frame-src 'self'"
    return answer


@router.get("/{name}/html")
def html(name: str, parts: Local) -> HTMLResponse:
    """The mail's HTML as it came, with the images it carries put in place."""
    message = _message(parts, name)
    body = message.get_body(("html",))
    if not isinstance(body, EmailMessage):
        raise NotFoundError("this mail has no HTML part")
    images = {
        str(part["Content-ID"]).strip("<> "): _data_url(part) for part in message.walk() if part.get("Content-ID")
    }
    shown = _CID.sub(lambda match: images.get(match[1], "about:blank"), body.get_content())
    return HTMLResponse(shown, headers={"Content-Security-Policy": _MAIL_POLICY})


@router.get("/{name}/raw")
def raw(name: str, parts: Local) -> PlainTextResponse:
    """The octets that came over SMTP."""
    return PlainTextResponse(_path(parts, name).read_bytes().decode("utf-8", "replace"))


def _path(parts: Services, name: str) -> Path:
    path = parts.settings.inbox_dir / "new" / name
    # The pattern leaves no way out of the folder.
    if _NAME.fullmatch(name) is None or not path.is_file():
        raise NotFoundError("there is no such mail")
    return path


def _message(parts: Services, name: str) -> EmailMessage:
    return email.message_from_bytes(_path(parts, name).read_bytes(), policy=email.policy.default)


def _line(path: Path) -> Line:
    """The headers alone: a list of fifty must not read fifty bodies."""
    with path.open("rb") as file:
        head = file.read(16_384).partition(b"\r\n\r\n")[0]
    message = email.message_from_bytes(head + b"\r\n\r\n", policy=email.policy.default)
    return Line(
        path.name,
        str(message.get("Subject", "")),
        str(message.get("To", "")),
        str(message.get("Date", "")),
        str(message.get("Content-Language", "")),
    )


def _data_url(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    octets = payload if isinstance(payload, bytes) else b""
    return f"data:{part.get_content_type()};base64,{base64.b64encode(octets).decode('ascii')}"
