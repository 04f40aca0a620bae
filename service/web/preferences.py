"""A reader's own page, reached by the link of a mail, without a login: languages, text alone, a pause, and requests.

Mails get forwarded: the page shows no address, and what would do harm in another's hands takes a fresh link by mail.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from service.audience import preferences, requesting
from service.domain.chains import Chain
from service.domain.content import Publication
from service.domain.errors import InvalidInputError, NotFoundError
from service.domain.subscriber import OF_WHO_LEFT, RequestPurpose, SubscriberStatus
from service.store import Session, subscribers, suppressions
from service.store import publication as publications
from service.store.subscribers import Subscriber
from service.web.pages import READ, Parts, page

router = APIRouter()


class Change(BaseModel):
    """One of the page's forms, as it was filled in."""

    change: Literal["languages", "text", "pause", "resume", "request"] = "languages"
    language: list[str] = Field([], max_length=99)
    text_only: bool = False
    until: str = Field("", max_length=20)
    purpose: RequestPurpose = RequestPurpose.DATA


@router.api_route("/p/{token}", methods=READ)
def show(request: Request, token: str, parts: Parts) -> HTMLResponse:
    """What a reader has chosen, to be changed, and the way out."""
    with parts.database.read() as session:
        publication = publications.load(session)
        reader = _mailed(session, _reader(parts, session, token))
    return _page(request, parts, publication, reader, token=token)


@router.post("/p/{token}")
def choose(request: Request, token: str, parts: Parts, filled: Annotated[Change, Form()]) -> HTMLResponse:
    """Change one thing, at once, and say what will happen next. Of who is mailed nothing, nothing is changed."""
    with parts.database.begin() as session:
        publication = publications.load(session)
        reader = _reader(parts, session, token)
        try:
            _applied(parts, session, publication, reader, filled)
        except InvalidInputError:
            return _page(request, parts, publication, reader, token=token, wrong=filled)
        changed = None if reader is None else _mailed(session, subscribers.get(session, reader.id))
    return _page(request, parts, publication, changed, token=token, done=filled)


def _applied(
    parts: Parts, session: Session, publication: Publication, reader: Subscriber | None, filled: Change
) -> None:
    """Do it, where there is a reader to whom it means anything. Raises InvalidInputError, and nothing changes."""
    now = parts.now()
    if reader is not None and filled.change == "request":
        requesting.request(session, parts.bell, reader, filled.purpose, now=now)
        return
    reader = _mailed(session, reader)
    if reader is None:
        return
    # A refusal comes of these alone, and so only to who is mailed.
    if filled.change == "languages":
        chain = Chain.parse(" ".join(filled.language), publication.languages)
        preferences.set_chain(session, reader, chain, actor=None, now=now)
    elif filled.change == "text":
        preferences.set_text_only(session, reader, text_only=filled.text_only, actor=None, now=now)
    else:
        until = _day(filled.until) if filled.change == "pause" else None
        preferences.pause(session, reader, until, actor=None, now=now)


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInputError("not a date; write it like 2026-03-31") from None


def _reader(parts: Parts, session: Session, token: str) -> Subscriber | None:
    """Whose link this is; nobody's where the reader is erased, or the address has changed since it was signed.

    Raises NotFoundError for a forged one.
    """
    claim = parts.preference_links.read(token)
    if claim is None:
        raise NotFoundError("not a link of ours")
    reader = subscribers.get(session, claim.subscriber)
    return reader if reader is not None and reader.epoch == claim.epoch else None


def _mailed(session: Session, reader: Subscriber | None) -> Subscriber | None:
    """The reader, where issues are mailed to the address; an operator may have suppressed that of who is active."""
    if reader is None or reader.status is not SubscriberStatus.ACTIVE:
        return None
    return None if suppressions.is_suppressed(session, reader.address_hash) else reader


def _page(
    request: Request,
    parts: Parts,
    publication: Publication,
    reader: Subscriber | None,
    *,
    token: str,
    done: Change | None = None,
    wrong: Change | None = None,
) -> HTMLResponse:
    """The page of a reader who is mailed; without one, that of everybody else, which does not tell them apart."""
    if reader is None:
        # In no language of its own: of who is erased none is known.
        return page(
            request,
            "preferences-left",
            publication=publication,
            token=token,
            purposes=[purpose.value for purpose in OF_WHO_LEFT],
            done=done,
        )
    chosen: Sequence[str] = reader.chain.languages
    today = parts.now().date()
    until = reader.paused_until
    ahead = until if until is not None and until > today else None
    places = len(publication.languages)
    # A form that is refused is given back as it was filled in.
    refused = wrong.change if wrong else ""
    selected = wrong.language if wrong and refused == "languages" else chosen
    day = wrong.until if wrong and refused == "pause" else ahead or ""
    return page(
        request,
        "preferences",
        publication=publication,
        status=HTTPStatus.BAD_REQUEST if wrong else HTTPStatus.OK,
        own_language=reader.chain.first,
        token=token,
        leave_token=parts.unsubscribe_links.sign(reader.id),
        chain=chosen,
        selected=[*selected, *[""] * places][:places],
        text_only=reader.text_only,
        until=ahead,
        day=day,
        until_said=until,
        earliest=today + dt.timedelta(days=1),
        latest=today + preferences.LONGEST_PAUSE,
        purposes=[purpose.value for purpose in RequestPurpose],
        done=done,
        wrong=refused,
    )
