"""One transactional mail: `templates/notices/<kind>/` in one language, filled with its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.domain.content import Publication
from service.domain.errors import ConfigurationError
from service.render.addresses import Addresses
from service.render.catalogue import Catalogues
from service.render.edition import look, paragraph
from service.render.folding import fold
from service.render.mjml_source import to_html
from service.render.templates import Templates, load_templates


@dataclass(frozen=True, slots=True)
class RenderedNotice:
    """A mail to one person; it holds no markers."""

    language: str
    subject: str
    html: str
    text: str


def notice_kinds(templates: Templates | None = None) -> tuple[str, ...]:
    """The kinds that have all of subject.txt, body.mjml.j2 and body.txt.j2."""
    folder = (templates or load_templates()).folder / "notices"
    parts = ("subject.txt", "body.mjml.j2", "body.txt.j2")
    return tuple(sorted(path.name for path in folder.iterdir() if all((path / part).is_file() for part in parts)))


def render_notice(
    kind: str,
    language: str,
    params: Mapping[str, object],
    *,
    publication: Publication,
    base_url: str,
    catalogues: Catalogues,
    templates: Templates | None = None,
) -> RenderedNotice:
    """The notice `kind` in `language`; `params` are the names its templates use, all of them needed.

    Values are escaped, never read as templates. Raises ConfigurationError for an unknown kind or language and for a
    parameter that is missing.
    """
    templates = templates or load_templates()
    if kind not in notice_kinds(templates):
        raise ConfigurationError(f'there is no notice "{kind}"; there are {", ".join(notice_kinds(templates))}')
    words = catalogues[language]
    values: dict[str, object] = {
        **params,
        "t": words,
        "language": language,
        "direction": words.direction,
        "title": publication.titles.get(language) or publication.key,
        "to": Addresses.of(publication, base_url),
        "wrapped": paragraph,
    }
    subject = " ".join(templates.render(f"notices/{kind}/subject.txt", **values).split())
    body = f"notices/{kind}/body.mjml.j2"
    html = to_html(templates.render(body, subject=subject, **values, **look()), body)
    text = templates.render(f"notices/{kind}/body.txt.j2", subject=subject, **values).strip() + "\n"
    return RenderedNotice(language, subject, fold(html), text)
