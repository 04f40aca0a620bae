"""Leaving by the link of a mail (RFC 8058). Only a POST changes anything, and no page here shows an address."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.audience.unsubscribe import Outcome, unsubscribe
from service.domain.errors import NotFoundError
from service.store import publication as publications
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
        outcome = unsubscribe(session, parts.bell, parts.unsubscribe_links, parts.departures, token, now=parts.now())
    if outcome is Outcome.NOT_A_LINK:
        raise NotFoundError("not a link of ours")
    return page(request, "unsubscribed", publication=publication)
