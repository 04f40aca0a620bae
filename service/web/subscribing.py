"""Subscribing and confirming. The form answers the same whoever's address it is given; only a POST changes anything.

No page shows an address, but for the form that is given back to whoever has just filled it in.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from service.audience.addresses import checked
from service.audience.confirming import Outcome, already_confirmed, confirm
from service.audience.signup import sign_up
from service.domain.content import Publication
from service.domain.errors import InvalidInputError, NotFoundError
from service.domain.signup import chain_of
from service.domain.weeks import Week
from service.store import confirmations, releases
from service.store import publication as publications
from service.web.floodgate import Floodgate
from service.web.pages import READ, Parts, page

router = APIRouter()


def offering(parts: Parts, language: str) -> Publication:
    """The publication, where it has that language; raises NotFoundError."""
    with parts.database.read() as session:
        publication = publications.load(session)
    if language not in publication.languages:
        raise NotFoundError("the publication has no such language")
    return publication


Offering = Annotated[Publication, Depends(offering)]


@router.api_route("/{language}/subscribe", methods=READ)
def form(request: Request, language: str, publication: Offering) -> HTMLResponse:
    """An address, and languages as checkboxes; that of the page is ticked."""
    return _form(request, publication, ticked=[language])


class Filled(BaseModel):
    """The form as it was filled in."""

    address: str = Field("", repr=False)
    language: list[str] = Field([], max_length=99)
    # Nobody sees this field: only a machine fills it in.
    website: str = ""
    # What a form holds that had to wait.
    stamp: str = Field("", max_length=100)
    # The newest issue is to come with the welcome.
    newest: bool = False


@router.post("/{language}/subscribe", response_model=None)
def subscribe(
    request: Request, language: str, parts: Parts, publication: Offering, filled: Annotated[Filled, Form()]
) -> Response:
    """The same redirect for every address. What is none, and a choice of no language, get the form back.

    So does, for half a minute, a network from which very many sign up; whose addresses they are is nowhere asked.
    """
    if filled.website:
        return _sent(language)
    problems = []
    address, ticked = filled.address, filled.language
    try:
        address = checked(address)
    except InvalidInputError:
        problems.append("address")
    try:
        chain = chain_of(ticked, language, publication.languages)
    except InvalidInputError:
        problems.append("languages")
    if problems:
        return _form(request, publication, ticked=ticked, address=address, problems=problems, newest=filled.newest)
    floodgate: Floodgate = request.app.state.floodgate
    now = parts.now()
    if not floodgate.passes(request.client.host if request.client else None, filled.stamp, now):
        stamp = floodgate.stamp(now)
        return _form(request, publication, ticked=ticked, address=address, stamp=stamp, newest=filled.newest)
    with parts.database.begin() as session:
        sign_up(session, parts.bell, address, chain, now=now, newest=filled.newest)
    return _sent(language)


@router.api_route("/{language}/subscribe/sent", methods=READ)
def sent(request: Request, publication: Offering) -> HTMLResponse:
    """Look into your mailbox: said to everybody."""
    return page(request, "subscribe-sent", publication=publication)


@router.api_route("/c/{token}", methods=READ)
def ask(request: Request, token: str, parts: Parts) -> HTMLResponse:
    """One button and nothing else. Scanners follow every link of a mail, so this changes nothing.

    Who has pressed it reads that it is done; any other link that is signed and young enough gets the button.
    """
    with parts.database.read() as session:
        publication = publications.find(session)
        row_id = parts.confirmation_links.read(token, parts.now())
        if row_id is None:
            return _stale(request, publication)
        if already_confirmed(session, row_id):
            return _already(request, publication, releases.newest(session))
        moves = confirmations.moves(session, row_id)
    return page(request, "confirm", publication=publication, token=token, moves=moves)


@router.post("/c/{token}")
def press(request: Request, token: str, parts: Parts) -> HTMLResponse:
    """Confirm; each time after the first one the page says that it was done. The body is not read, no cookie set."""
    with parts.database.begin() as session:
        publication = publications.find(session)
        outcome = confirm(session, parts.bell, parts.confirmation_links, parts.departures, token, now=parts.now())
        newest = releases.newest(session)
    if outcome is Outcome.STALE:
        return _stale(request, publication)
    if outcome is Outcome.ALREADY:
        return _already(request, publication, newest)
    if outcome is Outcome.MOVED:
        return page(request, "moved", publication=publication)
    return page(request, "welcome", publication=publication, week=newest)


def _sent(language: str) -> RedirectResponse:
    return RedirectResponse(f"/{language}/subscribe/sent", HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})


def _already(request: Request, publication: Publication | None, newest: Week | None) -> HTMLResponse:
    """For used links of readers who are mailed, sign-ups and moves alike: it leads to what everybody may read.

    Not to the reader's page: whom a mail was forwarded to could choose, leave or ask there in the reader's name.
    """
    return page(request, "confirm-already", publication=publication, week=newest)


def _stale(request: Request, publication: Publication | None) -> HTMLResponse:
    """For links that are forged, expired or withdrawn, and used ones of who is mailed no more, alike."""
    return page(request, "confirm-stale", publication=publication, status=HTTPStatus.NOT_FOUND)


def _form(
    request: Request,
    publication: Publication,
    *,
    ticked: Sequence[str],
    address: str = "",
    problems: Sequence[str] = (),
    newest: bool = False,
    stamp: str = "",
) -> HTMLResponse:
    status = HTTPStatus.UNPROCESSABLE_ENTITY if problems else HTTPStatus.OK
    answer = page(
        request,
        "subscribe",
        publication=publication,
        status=HTTPStatus.TOO_MANY_REQUESTS if stamp else status,
        ticked=ticked,
        address=address,
        problems=problems,
        newest=newest,
        stamp=stamp,
    )
    if stamp:
        answer.headers["Retry-After"] = "30"
    if problems or stamp:
        answer.headers["Cache-Control"] = "no-store"
    return answer
