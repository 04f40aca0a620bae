"""The only place that picks concrete parts: settings, database, keys, relay, clock, queue; and Celery's app."""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from service import config, log
from service.clock import Clock, CommonClock, SystemClock
from service.domain.errors import ConfigurationError
from service.domain.keys import Keyring, Purpose
from service.domain.tokens import ConfirmationSigner, DeliverySigner, LinkSigner, RequestSigner
from service.embedded.keyring_file import KeyringFile, read_keyring

if TYPE_CHECKING:
    from celery import Celery

    from service.delivery.correcting import Proofreader
    from service.delivery.letters import Stationery
    from service.delivery.line import Line, LineKeeper
    from service.delivery.plan import Planner
    from service.delivery.press import Press
    from service.delivery.process import SendingProcess
    from service.delivery.reconciling import Reconciler
    from service.delivery.sweep import Sweep
    from service.domain.blockers import Blocker
    from service.domain.content import Edition, Publication
    from service.domain.limits import Limit
    from service.embedded.mailbox import Mailbox
    from service.embedded.programs import Installation
    from service.mail.dkim import Key
    from service.mail.relay import Relay
    from service.pace.places import Places
    from service.queue import CeleryBell
    from service.render.edition import RenderedEdition
    from service.store import Database, Sealer, Session
    from service.store.departures import DepartureLog


@dataclass
class Services:
    """The parts of one process, each made when first asked for."""

    settings: config.Settings
    clock: Clock

    @cached_property
    def keyring(self) -> Keyring:
        """The keys; raises ConfigurationError where the file is missing."""
        return read_keyring(self.settings.keyring_path)

    @cached_property
    def keyring_file(self) -> KeyringFile:
        """What the signers of links read again where a link names a key that was added since."""
        return KeyringFile(self.settings.keyring_path)

    @cached_property
    def sealer(self) -> Sealer:
        """What seals addresses."""
        from service.store import Sealer

        return Sealer(self.keyring, partial(read_keyring, self.settings.keyring_path))

    @cached_property
    def unsubscribe_links(self) -> LinkSigner:
        """Signs and reads `/u/TOKEN`."""
        return LinkSigner(self.keyring, Purpose.UNSUBSCRIBE, self.keyring_file)

    @cached_property
    def preference_links(self) -> LinkSigner:
        """Signs and reads `/p/TOKEN`."""
        return LinkSigner(self.keyring, Purpose.PREFERENCES, self.keyring_file)

    @cached_property
    def confirmation_links(self) -> ConfirmationSigner:
        """Signs and reads `/c/TOKEN`."""
        return ConfirmationSigner(self.keyring, self.keyring_file)

    @cached_property
    def request_links(self) -> RequestSigner:
        """Signs and reads `/r/TOKEN`."""
        return RequestSigner(self.keyring, self.keyring_file)

    @cached_property
    def form_stamps(self) -> LinkSigner:
        """Signs and reads what a form holds that must wait."""
        return LinkSigner(self.keyring, Purpose.FORM)

    @cached_property
    def delivery_ids(self) -> DeliverySigner:
        """Signs the ids a delivery shows to the world."""
        return DeliverySigner(self.keyring)

    @cached_property
    def database(self) -> Database:
        """The database, whose schema must be current and whose keyring this one."""
        from service.store import schema

        with ExitStack() as refused:
            database = refused.enter_context(closing(self._unchecked_database()))
            schema.require_current(database)
            refused.pop_all()
        return database

    def upgrade_database(self, *, dry_run: bool = False) -> tuple[str | None, str]:
        """Create or migrate the schema, with a new keyring for a new database; the revisions before and after."""
        from service.embedded import founding

        url, keyring_path = self.settings.resolved_database_url(), self.settings.keyring_path
        if dry_run:
            return founding.rehearse(url, keyring_path)
        self.settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return founding.upgrade(url, keyring_path)

    def _unchecked_database(self) -> Database:
        from service.store import Database

        url = self.settings.resolved_database_url()
        return Database(url, self.sealer, departures=self.departures, clock=self.common_clock)

    @cached_property
    def common_clock(self) -> CommonClock:
        """The time by which mail is delivered, on every host the same; the database tells it."""
        return CommonClock(self.clock)

    def now(self) -> dt.datetime:
        """What time it is by the database, for whatever a command or a page does; `clock` is this machine's."""
        # Whoever opened it was told; nothing more is asked for.
        assert self.database
        return self.common_clock.now()

    @cached_property
    def departures(self) -> DepartureLog:
        """Where those who leave are written down, beside the database."""
        from service.store.departures import DepartureLog

        return DepartureLog(self.settings.data_dir / "departures.log")

    def base_url(self, publication: Publication) -> str:
        """Where the site is for the public, without a slash at its end: the setting, else the publication's own."""
        return (self.settings.base_url or publication.base_url).rstrip("/")

    def installation(self, *, concurrency: int, proxies: Sequence[str] = ()) -> Installation:
        """What `tydzen up` runs on this machine; `proxies` are those whose word on readers' addresses counts."""
        from service.embedded.programs import Installation

        settings = self.settings
        return Installation(
            data_dir=settings.data_dir.absolute(),
            web_host=settings.web_host,
            web_port=settings.web_port,
            inbox_port=settings.inbox_port,
            embedded_redis=settings.redis_url is None,
            local_inbox=settings.smtp_url is None,
            concurrency=concurrency,
            proxies=tuple(proxies),
            environment=settings.environment(),
        )

    def require_redis(self) -> None:
        """Raise UnavailableError unless the broker answers within a few seconds."""
        from service.embedded.valkey import require

        require(redis_url(self.settings), embedded=self.settings.redis_url is None)

    def queue_lengths(self) -> dict[str, int]:
        """How many hints wait in each queue; raises UnavailableError where the broker does not answer."""
        from service.queue import waiting

        return waiting(celery_application(self.settings))

    @cached_property
    def bell(self) -> CeleryBell:
        """What wakes the workers."""
        from service.queue import CeleryBell

        return CeleryBell(celery_application(self.settings))

    @cached_property
    def press(self) -> Press:
        """What turns an edition into frozen octets."""
        from service.delivery.press import Press
        from service.render.catalogue import load_catalogues
        from service.render.templates import FOLDER

        leave_address = self.mailbox().leave.text if self.settings.inbound_url else None
        return Press(load_catalogues(FOLDER / "locale"), self.settings.base_url, leave_address)

    def mailbox(self) -> Mailbox:
        """Where mails to unsubscribe come in; raises ConfigurationError where none is set, or not rightly."""
        from service.embedded.mailbox import read_mailbox

        return read_mailbox(self.settings.inbound_url or "")

    @cached_property
    def stationery(self) -> Stationery:
        """The signed links and ids of letters."""
        from service.delivery.letters import Stationery

        return Stationery(self.unsubscribe_links, self.preference_links, self.delivery_ids)

    @cached_property
    def relays(self) -> tuple[Relay, ...]:
        """Where mail goes, in the order in which the relays are set; at least one."""
        from service.mail.relay import parse_relays

        try:
            relays = parse_relays(self.settings.resolved_smtp_url())
        except ConfigurationError as error:
            raise ConfigurationError(f"TYDZEN_SMTP_URL: {error}") from None
        if not relays:
            raise ConfigurationError("TYDZEN_SMTP_URL names no relay; set it like smtp://user:pass@host:587")
        return relays

    def limit_defaults(self) -> dict[str, Limit]:
        """The limits that the settings and the relays' URLs name, by scope."""
        from service.delivery.limits import defaults

        return defaults(self.settings.rate, self.relays)

    @cached_property
    def planner(self) -> Planner:
        """What plans mailings."""
        from service.delivery.plan import Planner

        settings = self.settings
        parts = (self.database, self.press, self.bell, self.common_clock)
        return Planner(*parts, settings.rate, batch_limit=settings.batch_size)

    @cached_property
    def sweep(self) -> Sweep:
        """What finds the work that no hint told of."""
        from service.delivery.recovery import Recovery
        from service.delivery.sweep import Sweep

        away = self.settings.host_away_minutes * 60
        recovery = Recovery(self.database, self.settings.data_dir, self.common_clock, away, self.clock)
        resend = self.settings.uncertain == "resend"
        parts = (self.database, self.bell.patient(), self.blocking, self.common_clock, recovery, self.books)
        return Sweep(*parts, resend_uncertain=resend, relays=lambda: [relay.name for relay in self.relays])

    @cached_property
    def books(self) -> Reconciler:
        """What holds the journals of this host against a database that may have been restored."""
        from service.audience.departures import OwnLog
        from service.delivery.reconciling import ACTOR, Reconciler

        log = OwnLog(self.departures, ACTOR)
        away = self.settings.host_away_minutes * 60
        return Reconciler(self.database, self.settings.data_dir, self.common_clock, log, self.clock, away)

    @cached_property
    def proofs(self) -> Proofreader:
        """What prints and judges an issue that may have been corrected while its mailing was paused."""
        from service.delivery.correcting import Proofreader

        return Proofreader(self.press, self.blocking)

    def blocking(self, session: Session, week: str) -> list[Blocker]:
        """What stands against sending that issue; empty where nothing does."""
        from service.editorial.checks import blockers

        return blockers(session, week, self.composed, base_url=self.settings.base_url)

    def composed(self, edition: Edition) -> RenderedEdition:
        """The edition as its readers would get it; raises what the press raises of one that cannot be mailed."""
        return self.press.printed(edition)[0]

    @cached_property
    def dkim_keys(self) -> tuple[Key, ...]:
        """What letters are signed with, if anything; raises ConfigurationError naming a key that cannot be used."""
        from service.mail.dkim import read_keys

        return read_keys(self.settings.dkim or "")

    def sender_domain(self) -> str:
        """The domain of the publication's sender, in A-labels; raises NotFoundError where there is none yet."""
        from service.store import publication

        with self.database.read() as session:
            return publication.sender_domain(session)

    def open_line(self, relay: Relay) -> Line:
        """A new line to that relay, for this process."""
        from service.delivery.line import open_line
        from service.mail.dkim import Signer

        domain = self.sender_domain()
        signer = Signer(self.dkim_keys, domain, lambda: self.common_clock.now().timestamp()) if self.dkim_keys else None
        helo = self.settings.helo_name or domain
        return open_line(self.database, self.settings.data_dir, relay, helo_name=helo, signer=signer)

    def lines(self) -> LineKeeper:
        """What holds a process's lines to the relays."""
        from service.delivery.line import LineKeeper

        return LineKeeper(self.database, [partial(self.open_line, relay) for relay in self.relays])

    def sending_process(self, places: Places, stopping: Callable[[], bool]) -> SendingProcess:
        """What a worker process sends with; call it after the fork, because journals and sockets are not shared."""
        from service.delivery.dispatch import Dispatcher
        from service.delivery.limits import Limits
        from service.delivery.notice_links import NoticeLinks
        from service.delivery.offload import Offload
        from service.delivery.postman import NoticeSender
        from service.delivery.process import SendingProcess
        from service.mail.loop import new_event_loop
        from service.pace.bucket import ValkeyPace

        settings, lines, offload = self.settings, self.lines(), Offload(self.database.run_short)
        pace, limits = ValkeyPace(redis_url(settings)), Limits(self.limit_defaults())
        dispatcher = Dispatcher(
            self.database,
            pace,
            self.stationery,
            self.press,
            self.bell,
            self.common_clock,
            lines,
            offload,
            stopping,
            limits,
            settings.lease_seconds,
            books=self.books,
        )
        postman = NoticeSender(
            self.database,
            offload,
            pace,
            self.press,
            self.delivery_ids,
            NoticeLinks(self.confirmation_links, self.preference_links, self.unsubscribe_links, self.request_links),
            self.common_clock,
            lines,
            stopping,
            limits,
            self.books,
        )
        return SendingProcess(new_event_loop(), dispatcher, postman, places, self.database)


def preload(parts: Services) -> None:
    """Import and read what a worker's processes use, before they fork: they share the memory, and start at once.

    Nothing stays open: a connection must never be shared by two processes. Raises what is wrong with the settings, so
    that a worker that could do nothing does not start.
    """
    from service.delivery.reconciling import Look

    for module in ("dispatch", "plan", "postman", "process", "sweep"):
        importlib.import_module(f"service.delivery.{module}")
    for module in ("service.editorial.checks", "service.mail.loop", "service.pace.bucket", "psycopg"):
        importlib.import_module(module)
    assert parts.press
    assert parts.stationery
    assert parts.relays
    assert parts.dkim_keys is not None
    # Before a process of this worker can claim anything: the database may have been restored while nobody ran.
    parts.books.compare(Look.ALL)
    parts.database.close()


def services(**overrides: Any) -> Services:
    """The parts for this process; `overrides` are flags, which win over the environment and `.env`."""
    settings = config.load(**overrides)
    log.configure(json=settings.log_json, level=settings.log_level)
    return Services(settings, SystemClock())


def redis_url(settings: config.Settings) -> str:
    """Where the broker is: the one set, or the embedded one's socket."""
    from service.embedded import valkey

    return settings.redis_url or valkey.socket_url(settings.data_dir)


def celery_application(settings: config.Settings) -> Celery:
    """Celery's app over these settings."""
    from service.hints import HintCelery
    from service.queue import celery_settings

    app: Celery = HintCelery("tydzen", include=["service.jobs"], amqp="service.hints:HintAmqp")
    app.conf.update(celery_settings(redis_url(settings)))
    return app


def __getattr__(name: str) -> Any:
    """`celery_app`, made when asked for: a help text on the command line must not wait for Celery."""
    if name != "celery_app":
        raise AttributeError(name)
    app = celery_application(services().settings)
    globals()[name] = app
    return app
