"""Pages: which language a visitor gets, and a template filled in that language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse

from service.bootstrap import Services
from service.domain.content import Publication
from service.domain.errors import TydzenError
from service.render.templates import load_templates
from service.store import publication as publications

_RANGE = re.compile(r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q=([01](?:\.\d{1,3})?))?\s*")
READ = ["GET", "HEAD"]
# What a site without a publication offers first; a language that is added comes after these.
_FIRST = ("en", "be", "ru")


def parts(request: Request) -> Services:
    """The parts of this process."""
    found: Services = request.app.state.services
    return found


Parts = Annotated[Services, Depends(parts)]


def accepted(header: str, offered: Sequence[str]) -> str:
    """The language of `offered` that an Accept-Language header asks for most, else the first (RFC 9110, 12.5.4)."""
    wishes = []
    for position, part in enumerate(header.split(",")[:20]):
        match = _RANGE.fullmatch(part)
        if match and float(match[2] or 1) > 0:
            wishes.append((-float(match[2] or 1), position, match[1].lower().partition("-")[0]))
    return next((code for _, _, code in sorted(wishes) if code in offered), offered[0])


def every_language(codes: Iterable[str]) -> tuple[str, ...]:
    """All languages that there are words in, where no publication says which of them are its own, and in what order."""
    return tuple(sorted(codes, key=lambda code: (_FIRST.index(code) if code in _FIRST else len(_FIRST), code)))


def language_of(request: Request, offered: Sequence[str], own: str | None = None) -> str:
    """The language in the path or asked for by `?lang=`, where we have it; else the reader's own, or the browser's."""
    asked = request.path_params.get("language") or request.query_params.get("lang") or own
    if asked in offered:
        return str(asked)
    return accepted(request.headers.get("accept-language", ""), offered)


def page(
    request: Request,
    template: str,
    *,
    publication: Publication | None,
    status: HTTPStatus = HTTPStatus.OK,
    own_language: str | None = None,
    language: str | None = None,
    **values: Any,
) -> HTMLResponse:
    """The template as a page, in `language` or else the visitor's; a reader known by a link has an `own_language`."""
    templates = load_templates()
    offered = publication.languages if publication else every_language(templates.catalogues)
    language = language if language in offered else language_of(request, offered, own_language)
    html = templates.render(
        f"web/{template}.html",
        t=templates.catalogues[language],
        language=language,
        names=[(code, templates.catalogues[code].own_name()) for code in offered],
        title=publication.titles[language] if publication else "Tydzen",
        answers=request.method not in READ,
        **values,
    )
    headers = {"Content-Language": language, "Vary": "Accept-Language"}
    return HTMLResponse(html, status, headers)


def error_page(request: Request, status: HTTPStatus) -> HTMLResponse:
    """What a visitor sees instead; the same page whatever was wrong, but for its status."""
    try:
        with parts(request).database.read() as session:
            publication = publications.find(session)
    except TydzenError:
        publication = None
    # Also where no route was found, and so no language of one.
    asked = request.query_params.get("lang") or request.url.path.split("/")[1]
    answer = page(request, "error", publication=publication, status=status, language=asked, code=status.value)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = "30"
    return answer
