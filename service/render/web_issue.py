"""An edition as a page of the publication's site: what "Read in browser" opens. No script, nothing from elsewhere."""

from __future__ import annotations

from service.domain.content import Edition
from service.render.addresses import Addresses
from service.render.catalogue import Catalogues
from service.render.edition import used_assets
from service.render.markdown_html import WEB_ISSUE
from service.render.pictures import place_linked
from service.render.preheader import preheader
from service.render.templates import Templates, load_templates
from service.render.view import edition_view

STYLESHEET = "/static/style.css"


def render_web_issue(
    edition: Edition,
    catalogues: Catalogues,
    *,
    base_url: str,
    templates: Templates | None = None,
    stylesheet: str = STYLESHEET,
) -> str:
    """`edition` as a complete HTML page, with no marker and nothing about a reader in it.

    Raises as `render_edition` does.
    """
    templates = templates or load_templates()
    addresses = Addresses.of(edition.publication, base_url)
    folder = addresses.issue(edition.language, edition.issue.week)
    images = place_linked(used_assets(edition), folder_url=folder).placed
    view = edition_view(edition, catalogues, addresses, dress=WEB_ISSUE, images=images)
    return templates.render(
        "web/issue.html",
        t=catalogues[edition.language],
        view=view,
        to=addresses,
        stylesheet=stylesheet,
        description=preheader(view, ""),
    )
