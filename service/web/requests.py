"""What a fresh link opens: a new address, the data, erasure. Only a POST does it, and each link is for one purpose."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from service.audience import requesting
from service.audience.addresses import checked
from service.domain.content import Publication
from service.domain.errors import InvalidInputError
from service.domain.subscriber import RequestPurpose
from service.store import publication as publications
from service.web.pages import READ, Parts, page

router = APIRouter()


class Filled(BaseModel):
    """The form of a new address; those of the other purposes are empty."""

    address: str = Field("", repr=False)


@router.api_route("/r/{token}", methods=READ)
def ask(request: Request, token: str, parts: Parts) -> HTMLResponse:
    """What the link is for, and a button. Scanners follow every link of a mail, so this changes nothing."""
    with parts.database.read() as session:
        publication = publications.load(session)
        found = requesting.find(session, parts.request_links, token, now=parts.now())
    if found is None:
        return _stale(request, publication)
    asked, reader = found
    return _page(request, publication, "request", asked.purpose, token=token, language=reader.chain.first)


@router.post("/r/{token}", response_model=None)
def do(request: Request, token: str, parts: Parts, filled: Annotated[Filled, Form()]) -> Response:
    """Do what the link is for, and say what happens next."""
    now = parts.now()
    with parts.database.begin() as session:
        publication = publications.load(session)
        found = requesting.find(session, parts.request_links, token, now=now)
        if found is None:
            return _stale(request, publication)
        asked, reader = found
        if asked.purpose is RequestPurpose.DATA:
            told = requesting.data(session, asked, reader)
            return _stale(request, publication) if told is None else _download(told)
        if asked.purpose is RequestPurpose.ERASE:
            requesting.erase_now(session, parts.departures, reader, now=now)
        else:
            try:
                address = checked(filled.address)
            except InvalidInputError:
                shown = {"token": token, "language": reader.chain.first, "address": filled.address}
                return _page(request, publication, "request", asked.purpose, **shown, wrong=True)
            requesting.ask_new_address(session, parts.bell, asked, reader, address, now=now)
    return _page(request, publication, "request-done", asked.purpose, token=token, language=reader.chain.first)


def _page(
    request: Request,
    publication: Publication,
    template: str,
    purpose: RequestPurpose,
    *,
    token: str,
    language: str,
    address: str = "",
    wrong: bool = False,
) -> HTMLResponse:
    return page(
        request,
        template,
        publication=publication,
        status=HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK,
        own_language=language,
        token=token,
        purpose=purpose.value,
        address=address,
        wrong=wrong,
    )


def _stale(request: Request, publication: Publication) -> HTMLResponse:
    """For forged, expired and used links alike."""
    return page(request, "request-stale", publication=publication, status=HTTPStatus.NOT_FOUND)


def _download(data: dict[str, object]) -> Response:
    text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
    headers = {"Content-Disposition": 'attachment; filename="my-data.json"'}
    return Response(text, media_type="application/json", headers=headers)
