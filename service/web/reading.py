"""What the public reads: the archive, an issue in the browser, its images; only of issues whose mailing has begun."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from service.domain.chains import Chain
from service.domain.content import Publication, edition
from service.domain.errors import InvalidInputError, NotFoundError
from service.domain.weeks import Week
from service.render.dates import week_range
from service.render.templates import load_templates
from service.render.web_issue import render_web_issue
from service.store import Session, issues, releases
from service.store import publication as publications
from service.web.pages import READ, Parts, language_of, page

router = APIRouter()

_NEWEST_IN_FEED = 20


def opened(parts: Parts, language: str) -> Publication:
    """The publication, where it has that language; raises NotFoundError."""
    with parts.database.read() as session:
        publication = publications.load(session)
    if language not in publication.languages:
        raise NotFoundError("the publication has no such language")
    return publication


Opened = Annotated[Publication, Depends(opened)]


def _week(text: str) -> Week:
    try:
        return Week.parse(text)
    except InvalidInputError:
        raise NotFoundError("there is no such week") from None


@router.api_route("/", methods=READ, response_model=None)
def home(request: Request, parts: Parts) -> Response:
    """To the archive in the language that the browser asks for."""
    with parts.database.read() as session:
        publication = publications.find(session)
    if publication is None:
        return page(request, "empty", publication=None)
    target = f"/{language_of(request, publication.languages)}/issues/"
    return RedirectResponse(target, headers={"Vary": "Accept-Language"})


@router.api_route("/{language}/", methods=READ)
def front(language: str, publication: Opened) -> RedirectResponse:
    """To the archive."""
    assert language in publication.languages
    return RedirectResponse(f"/{language}/issues/")


@router.api_route("/{language}/issues/", methods=READ)
def archive(request: Request, language: str, parts: Parts, publication: Opened) -> HTMLResponse:
    """All released issues, newest first."""
    with parts.database.read() as session:
        weeks = releases.weeks(session)
    listed = [(week, week_range(week, language)) for week in weeks]
    return page(request, "archive", publication=publication, weeks=listed, tagline=publication.taglines[language])


@router.api_route("/{language}/privacy", methods=READ)
def privacy(request: Request, publication: Opened) -> HTMLResponse:
    """What is known about readers and what is not."""
    return page(request, "privacy", publication=publication)


@router.api_route("/{language}/feed.xml", methods=READ)
def feed(language: str, parts: Parts, publication: Opened) -> Response:
    """The released issues as an Atom feed (RFC 4287)."""
    with parts.database.read() as session:
        weeks = releases.weeks(session)[:_NEWEST_IN_FEED]
    xml = load_templates().render(
        "web/feed.xml",
        language=language,
        title=publication.titles[language],
        tagline=publication.taglines[language],
        base=parts.base_url(publication),
        key=publication.key,
        entries=[(week, week_range(week, language)) for week in weeks],
    )
    return Response(xml, media_type="application/atom+xml; charset=utf-8")


@router.api_route("/{language}/issues/{week}/", methods=READ)
def issue(language: str, week: str, parts: Parts, publication: Opened) -> HTMLResponse:
    """The issue: each article in this language, or else in the first other that has it."""
    chain = Chain((language, *(code for code in publication.languages if code != language)))
    with parts.database.read() as session:
        found = issues.load(session, _released(session, _week(week)))
    shown = edition(publication, found, chain)
    if shown is None:
        raise NotFoundError(f"issue {week} has no approved text")
    html = render_web_issue(shown, load_templates().catalogues, base_url=parts.base_url(publication))
    return HTMLResponse(html, headers={"Content-Language": language})


def _released(session: Session, week: Week) -> Week:
    if not releases.is_released(session, week):
        raise NotFoundError("there is no such issue, or not yet")
    return week


@router.api_route("/{language}/issues/{week}/{name}", methods=READ, dependencies=[Depends(opened)])
def picture(week: str, name: str, parts: Parts) -> Response:
    """An image of the issue's folder."""
    with parts.database.read() as session:
        found = releases.picture(session, _week(week), name)
    if found is None:
        raise NotFoundError("there is no such file")
    # An image is never a page of this site, whatever it holds.
    headers = {
        "Cache-Control": "public, max-age=86400",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "ETag": f'"{found.digest[:32]}"',
    }
    return Response(found.data, media_type=found.media_type, headers=headers)


@router.api_route("/{language}/{section}/{article}", methods=READ)
def article(language: str, section: str, article: str, parts: Parts, publication: Opened) -> RedirectResponse:
    """To the article's place in its issue."""
    keys = [
        known.key
        for known in publication.sections
        if section in {known.key, known.slugs.get(language), *known.aliases.get(language, ())}
    ]
    with parts.database.read() as session:
        week = releases.week_of_article(session, article, keys) if keys else None
    if week is None:
        raise NotFoundError("there is no such article")
    return RedirectResponse(f"/{language}/issues/{week}/#{article}")
