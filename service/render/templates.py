"""The templates folder: its Jinja environment, which escapes all but plain text, and its catalogues."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, select_autoescape
from markupsafe import Markup, escape

from service.domain.errors import ConfigurationError
from service.render.catalogue import Catalogues, load_catalogues
from service.render.dates import long_date
from service.render.mjml_source import check_templates
from service.render.typography import bind

FOLDER = Path(__file__).resolve().parents[2] / "templates"
# `15–21`, and `15.–21.` where days are ordinals: a line may end after the dash.
# In English the month stands before its day, and nothing else binds the two.
_HELD = re.compile(r"[A-Za-z]{3,} \d{1,2}(?:–\d{1,2})?(?=,| –)|\d+\.?–\d+\.?|\d{4}-W\d\d")


@dataclass(frozen=True, slots=True)
class Templates:
    """What a designer or translator touches, loaded and checked."""

    folder: Path
    catalogues: Catalogues
    _environment: Environment

    def render(self, name: str, /, **values: object) -> str:
        """The template `name`; all that is not Markup is escaped, unless the name says `.txt`.

        Raises ConfigurationError with file and line for a template that is missing, wrong or names no given value.
        """
        try:
            return self._environment.get_template(name).render(**values)
        except TemplateError as error:
            place = f"{getattr(error, 'name', None) or name}:{getattr(error, 'lineno', None) or '?'}"
            raise ConfigurationError(f"template {place}: {error}; every value it names must be given") from error


@lru_cache(maxsize=8)
def load_templates(folder: Path = FOLDER) -> Templates:
    """The templates below `folder`, kept for the life of the process.

    Raises ConfigurationError that lists each MJML tag or attribute that would be passed over, with file and line.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"there is no templates folder {folder}; install the service with its templates")
    mistakes = check_templates(folder)
    if mistakes:
        raise ConfigurationError("templates that MJML would not render as written:\n" + "\n".join(map(str, mistakes)))
    catalogues, environment = load_catalogues(folder / "locale"), _environment(folder)
    environment.globals["own_name"] = lambda code: catalogues[code].own_name()
    return Templates(folder, catalogues, environment)


def _bound(words: str) -> str:
    """As `bind`; what was escaped already stays so."""
    bound = bind(str(words))
    return Markup(bound) if isinstance(words, Markup) else bound  # noqa: S704 - a space makes no markup


def _unbroken(words: str, *, inline: bool = False) -> Markup:
    """The HTML of `words` with numbers and the dash between them, and names of weeks, in elements that no line breaks.

    Not a word joiner: Outlook and many mail fonts draw it as a box. A page's policy allows no style that is `inline`,
    and a mail may come without its sheet.
    """
    how = 'style="white-space:nowrap"' if inline else 'class="unbroken"'
    held = _HELD.sub(rf"<span {how}>\g<0></span>", str(escape(words)))
    return Markup(held)  # noqa: S704 - escaped just now, and a number holds no markup


def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(disabled_extensions=("txt", "txt.j2"), default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # mrml takes white space without a line feed for text: an include that ends in none would stop it in mj-head.
        keep_trailing_newline=True,
    )
    environment.filters["bind"] = _bound
    environment.filters["unbroken"] = _unbroken
    environment.filters["long_date"] = long_date
    # Letters stay letters: escaped, a Cyrillic one is six octets instead of two.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return environment
