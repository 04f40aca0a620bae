"""What the public reads: only issues whose mailing has begun, and of these only approved texts."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from service.domain.content import Section
from service.domain.errors import InvalidInputError, NotFoundError
from service.domain.weeks import Week
from service.render.web_feed import render_feed, render_section_feed, render_sitemap
from service.render.web_issue import render_web_article, render_web_issue
from service.render.web_lists import render_archive, render_home, render_privacy, render_section
from service.store import publication as publications
from service.store import releases
from service.web.pages import READ, Parts, language_of, page
from service.web.sheet import HTML, Sheet
from service.web.shelf import Room, Shelf

router = APIRouter()

_ISSUES_IN_FEED, _ARTICLES_IN_FEED = 10, 20
_ATOM, _XML = "application/atom+xml; charset=utf-8", "application/xml; charset=utf-8"


def shelf(request: Request) -> Shelf:
    """The printed pages of this process."""
    found: Shelf = request.app.state.shelf
    return found


OnShelf = Annotated[Shelf, Depends(shelf)]


def room(language: str, pages: OnShelf) -> Room:
    """What the public may read, where the publication has that language; raises NotFoundError."""
    found = pages.room()
    found.require(language)
    return found


Reading = Annotated[Room, Depends(room)]


def printed(request: Request, make: Callable[[Room], str], *, media_type: str = HTML) -> Sheet:
    """The page of this request's path, printed if it is not on the shelf."""
    language = request.path_params.get("language")

    def sheet(reading: Room) -> Sheet:
        return Sheet(make(reading).encode(), language=language, media_type=media_type)

    return shelf(request).sheet(request.url.path, request.scope.get("route"), sheet)


def week_of(text: str) -> Week:
    """The week of an address; raises NotFoundError where it is none."""
    try:
        return Week.parse(text)
    except InvalidInputError:
        raise NotFoundError("there is no such week") from None


def _moved(url: str) -> RedirectResponse:
    return RedirectResponse(url, HTTPStatus.MOVED_PERMANENTLY)


def _section(reading: Room, language: str, slug: str) -> tuple[Section, bool]:
    """The section that has or had that slug, and whether it has it now; raises NotFoundError."""
    for section in reading.site.publication.sections:
        if slug == section.slugs.get(language, section.key):
            return section, True
    for section in reading.site.publication.sections:
        if slug in (section.key, *section.aliases.get(language, ())):
            return section, False
    raise NotFoundError("there is no such section")


@router.api_route("/", methods=READ, response_model=None)
def home(request: Request, parts: Parts) -> Response:
    """To the first page in the language that the browser asks for."""
    with parts.database.read() as session:
        publication = publications.find(session)
    if publication is None:
        return page(request, "empty", publication=None)
    target = f"/{language_of(request, publication.languages)}/"
    return RedirectResponse(target, headers={"Vary": "Accept-Language"})


@router.api_route("/robots.txt", methods=READ)
def robots(pages: OnShelf) -> PlainTextResponse:
    """Everything may be read; token pages say themselves that they are none to be found."""
    return PlainTextResponse(f"User-agent: *\nAllow: /\nSitemap: {pages.room().site.out.base}/sitemap.xml\n")


@router.api_route("/sitemap.xml", methods=READ)
def sitemap(request: Request) -> Response:
    """Every page in each language in which it exists."""
    return printed(request, lambda reading: render_sitemap(reading.site, reading.archive), media_type=_XML)


@router.api_route("/{language}/", methods=READ)
def front(request: Request, language: str, _reading: Reading) -> Response:
    """The newest issue in brief, the weeks before, the sections."""

    def make(reading: Room) -> str:
        newest = next(iter(reading.archive.issues), None)
        shown = reading.edition(newest.week, language) if newest else None
        return render_home(reading.site, reading.archive, shown, language)

    return printed(request, make)


@router.api_route("/{language}/privacy", methods=READ)
def privacy(request: Request, language: str, _reading: Reading) -> Response:
    """What is known about readers and what is not."""
    return printed(request, lambda reading: render_privacy(reading.site, language))


@router.api_route("/{language}/feed.xml", methods=READ)
def feed(request: Request, language: str, _reading: Reading) -> Response:
    """The released issues as an Atom feed (RFC 4287)."""

    def make(reading: Room) -> str:
        newest = reading.archive.issues[:_ISSUES_IN_FEED]
        return render_feed(reading.site, [(one, reading.edition(one.week, language)) for one in newest], language)

    return printed(request, make, media_type=_ATOM)


@router.api_route("/{language}/issues/", methods=READ)
def archive(request: Request, language: str, _reading: Reading) -> Response:
    """The newest issues, and the way to each year."""
    return printed(request, lambda reading: render_archive(reading.site, reading.archive, language, None))


@router.api_route("/{language}/issues/{year:int}/", methods=READ)
def archive_of_year(request: Request, language: str, year: int, reading: Reading) -> Response:
    """The issues of one year."""
    if year not in reading.archive.years() or request.url.path != reading.site.here.archive(language, year):
        raise NotFoundError("there are no issues of that year")
    return printed(request, lambda reading: render_archive(reading.site, reading.archive, language, year))


@router.api_route("/{language}/issues/{week}/", methods=READ)
def issue(request: Request, language: str, week: str, reading: Reading) -> Response:
    """The issue: each article in this language, or else in the first other that has it."""
    wanted = week_of(week)
    released = reading.released(wanted)
    shadowed = {article.slug for article in released.articles if article.shadowed}
    return printed(
        request,
        lambda reading: render_web_issue(
            reading.site, reading.edition(wanted, language), released_at=released.released_at, shadowed=shadowed
        ),
    )


@router.api_route("/{language}/issues/{week}/{name}", methods=READ)
def picture(week: str, name: str, parts: Parts, _reading: Reading) -> Response:
    """An image of the issue's folder."""
    with parts.database.read() as session:
        found = releases.picture(session, week_of(week), name)
    if found is None:
        raise NotFoundError("there is no such file")
    # An image is never a page of this site, whatever it holds.
    headers = {
        "Cache-Control": "public, max-age=86400",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return Sheet(found.data, media_type=found.media_type, headers=headers)


@router.api_route("/{language}/{slug}/", methods=READ)
def section(request: Request, language: str, slug: str, reading: Reading) -> Response:
    """A section with its history."""
    return _section_page(request, language, slug, None, reading)


@router.api_route("/{language}/{slug}/{year:int}/", methods=READ)
def section_of_year(request: Request, language: str, slug: str, year: int, reading: Reading) -> Response:
    """One year of a section."""
    return _section_page(request, language, slug, year, reading)


def _section_page(request: Request, language: str, slug: str, year: int | None, reading: Room) -> Response:
    found, current = _section(reading, language, slug)
    years = {article.week.year for article in reading.archive.section(found.key)}
    if not years or (year is not None and year not in years):
        raise NotFoundError("nothing was published in this section, or in that year")
    address = reading.site.here.section(language, found.key, year)
    if not current or request.url.path != address:
        return _moved(address)
    return printed(request, lambda reading: render_section(reading.site, reading.archive, found, language, year))


@router.api_route("/{language}/{slug}/feed.xml", methods=READ)
def section_feed(request: Request, language: str, slug: str, reading: Reading) -> Response:
    """The articles of one section as an Atom feed (RFC 4287)."""
    found, current = _section(reading, language, slug)
    if not current:
        return _moved(reading.site.here.feed(language, found.key))

    def make(reading: Room) -> str:
        newest = reading.archive.section(found.key)[:_ARTICLES_IN_FEED]
        editions = {week: reading.edition(week, language) for week in {article.week for article in newest}}
        listed = [(one, reading.released(one.week), editions[one.week]) for one in newest]
        return render_section_feed(reading.site, found, listed, language)

    return printed(request, make, media_type=_ATOM)


@router.api_route("/{language}/{slug}/{name}", methods=READ)
def article(request: Request, language: str, slug: str, name: str, reading: Reading) -> Response:
    """An article by its permalink; by one of before it or its section was renamed, the way to it."""
    found, current = _section(reading, language, slug)
    listed = reading.archive.article(name, found.key) or reading.archive.renamed(name, found.key)
    if listed is None:
        raise NotFoundError("there is no such article")
    if not current or listed.slug != name:
        return _moved(reading.site.here.article(language, listed))
    released = reading.released(listed.week)
    return printed(
        request,
        lambda reading: render_web_article(
            reading.site,
            reading.edition(listed.week, language),
            name,
            released_at=released.released_at,
            changed_at=max(released.released_at, listed.changed_at),
        ),
    )
