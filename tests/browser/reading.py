"""The sample publication as a site that is served on a socket: its three issues, and a year of weeks before them."""

import datetime as dt
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from service import bootstrap, config
from service.clock import SystemClock
from service.domain.chains import Chain
from service.domain.content import Article, Text, TextStatus, Trend
from service.domain.errors import ConfigurationError, UnavailableError
from service.domain.mailing import MailingState
from service.domain.subscriber import RequestPurpose, SubscriberStatus
from service.domain.tokens import hour_of
from service.domain.weeks import Week
from service.embedded.keyring_file import write_keyring
from service.store import confirmations, issues, mailings, requests, subscribers
from service.store import publication as publications
from service.web.app import create_app
from tests.browser.pictures import sample
from tests.conftest import KEYRING

WEEKS = ("2019-W20", "2019-W21", "2019-W22")
LANGUAGES = ("en", "be", "ru")
# What may go wrong in a page, by the status that it is answered with.
FAILURES = {500: ConfigurationError("something is not set"), 503: UnavailableError("something does not answer")}
_TRENDS = (Trend.SAME, Trend.WORSE, Trend.SAME, Trend.BETTER, None, Trend.BETTER, Trend.SAME)
_TITLES = {
    "en": "Week {week}: what the decrees of the month changed",
    "be": "Тыдзень {week}: што змянілі ўказы гэтага месяца",
    "ru": "Неделя {week}: что изменили указы этого месяца",
}
_BODIES = {
    "en": "Nothing was said about the terms. The next reading is in autumn.",
    "be": "Пра тэрміны нічога не сказана. Наступнае чытанне – увосень.",
    "ru": "О сроках ничего не сказано. Следующее чтение – осенью.",
}


@dataclass(frozen=True, slots=True)
class Served:
    """A site that answers at `base`, and the parts it is made of."""

    base: str
    parts: bootstrap.Services
    app: FastAPI


def release(session, week: Week, now: dt.datetime) -> None:
    """Let the public see that week's issue."""
    values = {"rate": None, "audience": "all", "actor": "test", "release_at": None}
    mailings.create(session, str(week), state=MailingState.SENT, now=now, **values)


def fill(parts: bootstrap.Services, earlier: int) -> None:
    """The examples and, before them, `earlier` weeks of short articles in every section."""
    now = parts.clock.now()
    with parts.database.begin() as session:
        publication, _issue = sample()
        publications.save(session, publication, now)
        for name in WEEKS:
            issues.save(session, sample(name)[1], now)
            release(session, Week.parse(name), now)
        for back in range(1, earlier + 1):
            week = Week.parse(WEEKS[0]).shifted(-back)
            keys = [section.key for section in publication.sections if section.active(week)]
            made = [_article(key, week, _TRENDS[(back + 3 * place) % 7]) for place, key in enumerate(keys)]
            issue = replace(sample()[1], week=week, articles=tuple(made), subjects={}, assets=())
            issues.save(session, issue, now)
            release(session, week, now)


def _article(section: str, week: Week, trend: Trend | None) -> Article:
    texts = {
        code: Text(code, title.format(week=week), _BODIES[code], _BODIES[code], TextStatus.APPROVED)
        for code, title in _TITLES.items()
    }
    return Article(f"{section}-{str(week).lower()}", section, "en", trend, ("N. Viarbina",), texts)


def fail(status: int) -> None:
    """A page that something goes wrong in."""
    raise FAILURES[status]


@contextmanager
def served(
    folder: Path, *, earlier: int | None = 24, around: Callable[[ASGIApp], ASGIApp] | None = None
) -> Iterator[Served]:
    """A site with that data in a new database below `folder`, or with none where `earlier` is None.

    `around` puts something between it and its visitors. Below `/LANGUAGE/it/fails/with/` it fails.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        settings = config.load(data_dir=folder / "var", base_url=base)
        settings.data_dir.mkdir(parents=True)
        write_keyring(settings.keyring_path, KEYRING)
        parts = bootstrap.Services(settings, SystemClock())
        parts.upgrade_database()
        if earlier is not None:
            fill(parts, earlier)
        app = create_app(parts)
        app.add_api_route("/{language}/it/fails/with/{status}", fail)
        options = uvicorn.Config(around(app) if around else app, log_config=None, access_log=False, lifespan="off")
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Served(base, parts, app)
        finally:
            server.should_exit = True
            thread.join()
            parts.database.close()


def own_pages(site: Served, language: str) -> dict[str, str]:
    """What the links in a reader's mails open, by name, for a new reader."""
    parts, chain = site.parts, Chain((language, *(code for code in LANGUAGES if code != language)))
    now, address = parts.clock.now(), f"{os.urandom(8).hex()}@example.test"
    with parts.database.begin() as session:
        made = {"status": SubscriberStatus.ACTIVE, "consent": "form:1", "week": Week.parse(WEEKS[0])}
        reader = subscribers.add(session, address, chain, **made).id
        subscribers.set_pause(session, reader, now.date() + dt.timedelta(days=20))
        digest = session.sealer.address_hash(f"{os.urandom(8).hex()}@example.test")
        asked = {purpose: requests.add(session, reader, 0, purpose, now=now) for purpose in RequestPurpose}
        confirm = confirmations.add(session, digest, chain, text_version=1, now=now)
        gone = subscribers.add(session, f"{os.urandom(8).hex()}@example.test", chain, **made).id
        subscribers.set_status(session, gone, SubscriberStatus.UNSUBSCRIBED, week=made["week"])
        own = session.sealer.address_hash(address)
        used = confirmations.add(session, own, chain, text_version=1, now=now)
        confirmations.close(session, own)
    paths = {
        "preferences": f"/p/{parts.preference_links.sign(reader)}",
        "who-left": f"/p/{parts.preference_links.sign(gone)}",
        "unsubscribe": f"/u/{parts.unsubscribe_links.sign(reader)}",
        "confirm": f"/c/{parts.confirmation_links.sign(confirm, hour_of(now))}",
        "confirm-used": f"/c/{parts.confirmation_links.sign(used, hour_of(now))}",
        "confirm-stale": f"/c/{'A' * 48}",
        "request-stale": f"/r/{'A' * 48}",
    }
    for purpose, row_id in asked.items():
        paths[f"request-{purpose.value}"] = f"/r/{parts.request_links.sign(row_id, hour_of(now))}"
    return {name: f"{path}?lang={language}" for name, path in paths.items()}


def pages(language: str) -> dict[str, str]:
    """A page of each kind, by name."""
    slugs = {"en": ("power", "west", "society"), "be": ("ulada", "zachad", "hramadstva")}
    slugs["ru"] = ("vlast", "zapad", "obshchestvo")
    power, west, society = slugs[language]
    return {
        "home": f"/{language}/",
        "archive": f"/{language}/issues/",
        "year": f"/{language}/issues/2018/",
        "issue": f"/{language}/issues/2019-W22/",
        "fallbacks": f"/{language}/issues/2019-W21/",
        "section": f"/{language}/{power}/",
        "article": f"/{language}/{west}/short-stays",
        "stand-in": f"/{language}/{society}/candidate-shortage",
        "privacy": f"/{language}/privacy",
        "subscribe": f"/{language}/subscribe",
        "sent": f"/{language}/subscribe/sent",
        "missing": f"/{language}/no/such/page",
    }
