"""One edition as a mail: subject, preheader, HTML and text with per-reader markers, and the images inside it.

Rendered once per issue and chain, never per reader. Same edition, same octets.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.content import Asset, Edition
from service.domain.errors import ConfigurationError, InvalidInputError
from service.render.addresses import Addresses
from service.render.catalogue import Catalogues
from service.render.folding import fold
from service.render.markdown import image_names
from service.render.markdown_html import MAIL
from service.render.markdown_text import wrapped
from service.render.mjml_source import to_html
from service.render.pictures import InlineImage, place_inside_or_linked
from service.render.preheader import PADDING, preheader
from service.render.templates import Templates, load_templates
from service.render.tokens import DARK, LIGHT, MONO, SANS, SERIF
from service.render.view import EditionView, edition_view

# Gmail shows 102 KB of a mail: whoever writes more than this has pasted something else.
_LONGEST_TEXT = 200_000


@dataclass(frozen=True, slots=True)
class RenderedEdition:
    """What all readers of an edition get, but for the markers of `domain.slots` in its URLs."""

    language: str
    subject: str
    preheader: str
    html: str
    text: str
    images: tuple[InlineImage, ...]


def render_edition(
    edition: Edition, catalogues: Catalogues, *, base_url: str, templates: Templates | None = None
) -> RenderedEdition:
    """`edition` as a mail whose links lead below `base_url`.

    The unsubscribe and preference links hold the markers of `domain.slots.MARKERS`. Raises ConfigurationError for a
    word, template value or MJML that is missing or wrong, and InvalidInputError for a base URL that is not one, or an
    article that is too long.
    """
    _refuse_too_long(edition)
    templates = templates or load_templates()
    addresses = Addresses.of(edition.publication, base_url)
    words = catalogues[edition.language]
    placement = place_inside_or_linked(
        used_assets(edition), folder_url=addresses.issue(edition.language, edition.issue.week)
    )
    view = edition_view(edition, catalogues, addresses, dress=MAIL, images=placement.placed)
    subject = subject_of(edition, view)
    line = preheader(view, subject)
    values = {"t": words, "view": view, "to": addresses, "subject": subject, "preheader": line, "wrapped": paragraph}
    source = templates.render("edition/issue.mjml.j2", padding=PADDING, **values, **look())
    return RenderedEdition(
        language=edition.language,
        subject=subject,
        preheader=line,
        html=fold(to_html(source, "edition/issue.mjml.j2")),
        text=templates.render("edition/issue.txt.j2", rule="=" * 72, thin_rule="-" * 72, **values).strip() + "\n",
        images=placement.inside,
    )


def _refuse_too_long(edition: Edition) -> None:
    for shown in edition.articles:
        text = shown.text
        if len(text.title) + len(text.lead) + len(text.body) > _LONGEST_TEXT:
            raise InvalidInputError(
                f'article "{shown.article.slug}" in {text.language}: it is longer than {_LONGEST_TEXT // 1000},000 '
                "characters, which no mail can hold; shorten it"
            )


def look() -> dict[str, object]:
    """The design tokens, under the names that templates use."""
    return {"c": LIGHT, "d": DARK, "serif": SERIF, "sans": SANS, "mono": MONO}


def used_assets(edition: Edition) -> tuple[Asset, ...]:
    """The images that the edition's texts show, each once, in order."""
    names = dict.fromkeys(name for shown in edition.articles for name in image_names(shown.text.body))
    return tuple(asset for asset in map(edition.issue.asset, names) if asset is not None)


def subject_of(edition: Edition, view: EditionView) -> str:
    """The issue's own subject in the edition's language, else the publication's pattern with `{range}` filled in."""
    own = edition.issue.subjects.get(edition.language)
    if own:
        return own
    pattern = edition.publication.subjects.get(edition.language)
    if not pattern:
        raise ConfigurationError(f"publication.toml: [subject] has no pattern in {edition.language}; add one")
    return pattern.replace("{range}", view.range).replace("{title}", view.title)


def paragraph(text: str, first: str = "", rest: str = "") -> str:
    """For templates: `text` wrapped at 72 characters."""
    return "\n".join(wrapped(text, first=first, rest=rest))
