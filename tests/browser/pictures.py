"""Pictures of the sample issue as readers see it: `python -m tests.browser.pictures OUTDIR` (part of `make pictures`)."""

import base64
import datetime as dt
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from service.domain.chains import Chain
from service.domain.content import Edition, Issue, Publication, TextStatus, edition
from service.domain.subscriber import RequestPurpose
from service.editorial.issue_folder import read_issue
from service.editorial.publication_file import read_publication
from service.render.edition import RenderedEdition, render_edition
from service.render.notice import render_notice
from service.render.site import Site
from service.render.templates import FOLDER, load_templates
from service.render.web_issue import render_web_issue

EXAMPLES = Path(__file__).parents[2] / "examples"
CHROMIUM = "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
BASE = "https://weekly.example.org"
RELEASED = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
CHAINS = (Chain(("en",)), Chain(("be", "ru")), Chain(("ru", "be", "en")))
WIDTHS = (600, 360)
STYLES = re.compile(r"<style\b.*?</style>", re.DOTALL)
FINDINGS = [
    ("be", "council-drafts", "the title holds “{{” in line 1; finish it"),
    ("", "issue", "the HTML weighs 97 KB"),
]


@dataclass(frozen=True, slots=True)
class Look:
    """One way to look at a mail."""

    name: str
    scheme: str = "light"
    styled: bool = True
    inverted: bool = False


LOOKS = (
    Look("light"),
    Look("dark", scheme="dark"),
    Look("bare", styled=False),
    Look("inverted", styled=False, inverted=True),
)


def sample(week: str = "2019-W22") -> tuple[Publication, Issue]:
    """The example publication and one of its issues, all texts approved."""
    publication = read_publication(EXAMPLES / "publication.toml")
    issue = read_issue(EXAMPLES / "issues" / week, publication)
    articles = tuple(
        replace(
            article,
            texts={code: replace(text, status=TextStatus.APPROVED) for code, text in article.texts.items()},
        )
        for article in issue.articles
    )
    return publication, replace(issue, articles=articles)


def sample_edition(chain: Chain, week: str = "2019-W22") -> Edition:
    """The example issue through `chain`."""
    made = edition(*sample(week), chain)
    assert made is not None
    return made


def mail(made: Edition) -> RenderedEdition:
    """The mail of `made`."""
    return render_edition(made, load_templates().catalogues, base_url=BASE)


def opened(mail: RenderedEdition) -> str:
    """The HTML as a mail program opens it: images that travel inside are there."""
    html = mail.html
    for image in mail.images:
        data = base64.b64encode(image.asset.data).decode()
        html = html.replace(f"cid:{image.content_id}", f"data:{image.asset.media_type};base64,{data}")
    return html


def notices() -> dict[str, str]:
    """Each kind of notice in one language."""
    publication, issue = sample()
    week = str(issue.week)
    params: dict[str, tuple[str, dict[str, object]]] = {
        "issue-blocked": ("be", {"week": week, "slot": "3 чэрвеня 2019, 09:00", "findings": FINDINGS}),
        "slot-missed": ("ru", {"week": week, "slot": "3 июня 2019 г., 09:00"}),
        "mailing-trouble": ("en", {"week": week, "problem": "The relay refused 20 letters in a row: 454 4.7.0"}),
    }
    catalogues = load_templates().catalogues
    return {
        kind: render_notice(kind, code, values, publication=publication, base_url=BASE, catalogues=catalogues).html
        for kind, (code, values) in params.items()
    }


def reader_notices(language: str, of: Publication | None = None) -> dict[str, str]:
    """Each kind of notice to a reader of that publication, or of the sample."""
    publication, issue = sample()
    publication = of or publication
    chain, token = [language, *(code for code in publication.languages if code != language)], "A" * 48
    confirm: dict[str, object] = {"chain": chain, "tokens": {"confirm": token}}
    own = {"preferences": token, "unsubscribe": token}
    params: dict[str, tuple[str, dict[str, object]]] = {
        "confirm": ("confirm", confirm),
        "reminder": ("reminder", confirm),
        "welcome": ("welcome", {"chain": chain, "week": str(issue.week), "tokens": own}),
        "goodbye": ("goodbye", {"tokens": own}),
        "move": ("move", confirm),
        "moved": ("moved", {}),
    }
    for purpose in RequestPurpose:
        params[f"request-{purpose.value}"] = "request", {"purpose": purpose.value, "tokens": {"request": token}}
    catalogues = load_templates().catalogues
    return {
        name: render_notice(kind, language, values, publication=publication, base_url=BASE, catalogues=catalogues).html
        for name, (kind, values) in params.items()
    }


def web_page(made: Edition) -> str:
    """The issue to read in the browser, its stylesheet inside and its images from the folder."""
    html = render_web_issue(Site(made.publication, BASE), made, released_at=RELEASED)
    css = (FOLDER / "web/static/style.css").read_text("utf-8")
    html = re.sub(r'<link rel="stylesheet"[^>]*>', lambda _match: f"<style>{css}</style>", html)
    for asset in made.issue.assets:
        data = base64.b64encode(asset.data).decode()
        html = re.sub(rf'src="[^"]*/{re.escape(asset.name)}"', f'src="data:{asset.media_type};base64,{data}"', html)
    return html


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's chromium, headless and quiet."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def shown(running: Browser, html: str, width: int, look: Look = LOOKS[0]) -> Iterator[tuple[Page, list[str]]]:
    """`html` on a screen `width` CSS pixels wide, and the list of what it asked the network for (nothing is answered)."""
    context = running.new_context(viewport={"width": width, "height": 800}, color_scheme=look.scheme)
    asked: list[str] = []
    context.route("**", lambda route: (asked.append(route.request.url), route.abort()))
    context.add_init_script("window.ran = 0; window.alert = () => { window.ran += 1 }")
    page = context.new_page()
    try:
        page.set_content(html if look.styled else STYLES.sub("", html))
        if look.inverted:
            page.add_style_tag(content="html { filter: invert(1) hue-rotate(180deg); background: #fff; }")
        yield page, asked
    finally:
        context.close()


def main(folder: Path) -> None:
    """Every picture into `folder`, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"mail-{'-'.join(chain.languages)}": opened(mail(sample_edition(chain))) for chain in CHAINS}
    pages["mail-fallbacks"] = opened(mail(sample_edition(CHAINS[1], "2019-W21")))
    pages |= {f"notice-{kind}": html for kind, html in notices().items()}
    for language in ("en", "be", "ru"):
        pages |= {f"notice-{kind}-{language}": html for kind, html in reader_notices(language).items()}
    pages["web-be-ru"] = web_page(sample_edition(CHAINS[1]))
    with browser() as running:
        for name, html in pages.items():
            for look in LOOKS if name.startswith("mail-") else LOOKS[:2]:
                for width in WIDTHS:
                    with shown(running, html, width, look) as (page, _asked):
                        page.screenshot(path=folder / f"{name}-{width}-{look.name}.png", full_page=True)
        photograph_site(running, folder)


def photograph_site(running: Browser, folder: Path) -> None:
    """Each kind of page of the served site and each answer to a form, as a visitor without scripts sees them."""
    # These need each other: what is served is the sample, and pictures are taken of it.
    from tests.browser.answers import answers, empty_pages
    from tests.browser.reading import LANGUAGES, own_pages, pages, served

    context = running.new_context(java_script_enabled=False)
    page = context.new_page()
    with tempfile.TemporaryDirectory() as data, served(Path(data)) as site:
        for language in LANGUAGES:
            for name, path in (pages(language) | own_pages(site, language)).items():
                page.goto(site.base + path)
                photograph(page, folder, f"site-{name}-{language}")
            for name in answers(site, page, language):
                photograph(page, folder, f"site-{name}-{language}")
    with tempfile.TemporaryDirectory() as data, served(Path(data), earlier=None) as site:
        for name, language in empty_pages(site, page):
            photograph(page, folder, f"site-{name}-{language}")
    context.close()


def photograph(page: Page, folder: Path, name: str) -> None:
    """What the page shows, on a phone and on a desk, by day and by night."""
    for width, scheme in ((360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "pictures"))
