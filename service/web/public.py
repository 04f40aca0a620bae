"""Pages reached by a token in a mail: leaving (RFC 8058) and languages. Only a POST changes anything.

Mails get forwarded, so no page here shows an address.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse

from service.audience.preferences import set_chain
from service.audience.unsubscribe import Outcome, unsubscribe
from service.domain.chains import Chain
from service.domain.content import Publication
from service.domain.errors import InvalidInputError, NotFoundError
from service.store import Session, subscribers
from service.store import publication as publications
from service.store.subscribers import Subscriber
from service.web.pages import READ, Parts, page

router = APIRouter()


@router.api_route("/u/{token}", methods=READ)
def ask(request: Request, token: str, parts: Parts) -> HTMLResponse:
    """A page with the button that unsubscribes. Scanners follow every link of a mail, so this changes nothing."""
    if parts.unsubscribe_links.read(token) is None:
        raise NotFoundError("not a link of ours")
    with parts.database.read() as session:
        publication = publications.find(session)
    return page(request, "unsubscribe", publication=publication, token=token)


@router.post("/u/{token}")
def leave(request: Request, token: str, parts: Parts) -> HTMLResponse:
    """Unsubscribe: 200 and the same page for whoever holds a link of ours, each time.

    The body is not read: both encodings of a form, and none, say the same (RFC 8058, 3.2). No cookie, no redirect.
    """
    with parts.database.begin() as session:
        publication = publications.find(session)
        outcome = unsubscribe(session, parts.unsubscribe_links, parts.departures, token, now=parts.clock.now())
    if outcome is Outcome.NOT_A_LINK:
        raise NotFoundError("not a link of ours")
    return page(request, "unsubscribed", publication=publication)


@router.api_route("/p/{token}", methods=READ)
def preferences(request: Request, token: str, parts: Parts) -> HTMLResponse:
    """The languages of a reader, to be changed, and the way out."""
    with parts.database.read() as session:
        publication = publications.load(session)
        reader_id, reader = _reader(parts, session, token)
    shown = reader.chain if reader else None
    return _languages(request, parts, publication, token=token, reader_id=reader_id, chain=shown)


@router.post("/p/{token}")
def choose(
    request: Request, token: str, parts: Parts, language: Annotated[list[str], Form(max_length=99)]
) -> HTMLResponse:
    """Give the reader another chain, at once. An erased reader's link gets the same answer."""
    with parts.database.begin() as session:
        publication = publications.load(session)
        reader_id, reader = _reader(parts, session, token)
        chain: Chain | None
        try:
            chain = Chain.parse(" ".join(language), publication.languages)
        except InvalidInputError:
            chain, wrong = reader.chain if reader else None, True
        else:
            wrong = False
            if reader is not None:
                set_chain(session, reader, chain, actor="reader", now=parts.clock.now())
    return _languages(
        request, parts, publication, token=token, reader_id=reader_id, chain=chain, saved=not wrong, wrong=wrong
    )


def _reader(parts: Parts, session: Session, token: str) -> tuple[bytes, Subscriber | None]:
    """Who holds this link; raises NotFoundError for a forged one and for one signed before the address changed."""
    claim = parts.preference_links.read(token)
    if claim is None:
        raise NotFoundError("not a link of ours")
    reader = subscribers.get(session, claim.subscriber)
    if reader is not None and reader.epoch != claim.epoch:
        raise NotFoundError("a link of before the address changed")
    return claim.subscriber, reader


def _languages(
    request: Request,
    parts: Parts,
    publication: Publication,
    *,
    token: str,
    reader_id: bytes,
    chain: Chain | None,
    saved: bool = False,
    wrong: bool = False,
) -> HTMLResponse:
    chosen = list(chain.languages) if chain else []
    return page(
        request,
        "preferences",
        publication=publication,
        status=HTTPStatus.BAD_REQUEST if wrong else HTTPStatus.OK,
        own_language=chosen[0] if chosen else None,
        token=token,
        leave_token=parts.unsubscribe_links.sign(reader_id),
        chosen=chosen + [""] * (len(publication.languages) - len(chosen)),
        saved=saved,
        wrong=wrong,
    )
