"""The pictures that other sites show beside a link to a page of ours. They show what the page shows, and no more."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from service.domain.errors import NotFoundError
from service.render.card import MEDIA_TYPE
from service.render.web_card import article_card, issue_card, publication_card
from service.web.pages import READ
from service.web.reading import Reading, shelf, week_of
from service.web.sheet import Sheet
from service.web.shelf import Room

router = APIRouter(prefix="/cards")


def drawn(request: Request, language: str, make: Callable[[Room], bytes]) -> Sheet:
    """The picture of this request's path, drawn if it is not on the shelf; NotFoundError where there can be none."""

    def sheet(reading: Room) -> Sheet:
        if not reading.site.has_cards(language):
            raise NotFoundError("the typeface has no letters for this language")
        return Sheet(make(reading), media_type=MEDIA_TYPE)

    return shelf(request).sheet(request.url.path, request.scope.get("route"), sheet)


@router.api_route("/{language}.png", methods=READ)
def of_publication(request: Request, language: str, _reading: Reading) -> Response:
    """For every page without a card of its own."""
    return drawn(request, language, lambda reading: publication_card(reading.site, language))


@router.api_route("/{language}/{week}.png", methods=READ)
def of_issue(request: Request, language: str, week: str, reading: Reading) -> Response:
    """For an issue in a language in which something of it can be read."""
    found = reading.released(week_of(week))
    if language not in found.languages([language]):
        raise NotFoundError("nothing of this issue can be read in this language")
    return drawn(request, language, lambda reading: issue_card(reading.site, found, language))


@router.api_route("/{language}/{week}/{slug}.png", methods=READ)
def of_article(request: Request, language: str, week: str, slug: str, reading: Reading) -> Response:
    """For an article in a language in which it can be read."""
    articles = reading.released(week_of(week)).articles
    found = next((article for article in articles if article.slug == slug), None)
    if found is None or language not in found.titles:
        raise NotFoundError("there is no such article, or none in this language")
    return drawn(request, language, lambda reading: article_card(reading.site, found, language))
