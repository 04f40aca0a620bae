"""The postman of one worker process: renders a notice when a hint rings, gates it, sends it, records the reply."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import format_datetime
from functools import partial
from typing import TypeVar

from service import faults, log
from service.clock import Clock, suspended_monotonic
from service.delivery import newest_issue, notices
from service.delivery.letters import KEY_AGAIN
from service.delivery.limits import Limits
from service.delivery.line import Line, LineKeeper
from service.delivery.notice_links import NoticeLinks
from service.delivery.offload import Offload
from service.delivery.patience import Patience, until_there
from service.delivery.press import Press
from service.delivery.reconciling import Reconciler, believing
from service.delivery.routes import Routes
from service.delivery.send import GATE_SECONDS
from service.domain.content import Publication
from service.domain.delivery import DeliveryState, Hindrance, SkipReason
from service.domain.errors import ConfigurationError, InvalidInputError, TydzenError, UnavailableError
from service.domain.limits import INSTALLATION, relay_scope
from service.domain.replies import Phase, ReplyClass
from service.domain.retries import GIVE_UP_AFTER, next_attempt
from service.domain.signup import NEWEST_ISSUE, WELCOME
from service.domain.slots import TOKEN_LENGTH, SlotValues
from service.domain.tokens import DeliverySigner
from service.mail.address import envelope_address
from service.mail.letter import Letter, Outcome
from service.mail.message import Body, Letterhead, Mailbox, notice_rendition
from service.mail.segments import Rendition
from service.pace.bucket import Pace
from service.render.notice import render_notice
from service.store import Database, DatabaseAwayError, Session, SpoiledAddressError, UnknownKeyError, publication
from service.store import notices as store
from service.store.notices import Gated, Notice

# Deliveries and notices are numbered apart; their ids on the wire come from one space.
_WIRE_NUMBERS = 1 << 63
_LEASE_SECONDS = 120.0
_ROOM_SECONDS = 20.0
_SIGN_OF_LIFE = 0.5
# A notice has no links of the list's; the places of both tokens are not in its text.
_NO_TOKEN = b"-" * TOKEN_LENGTH

_log = log.get("postman")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Printed:
    """A notice ready to be mailed, the domain of its sender in A-labels, and the tokens that its places take."""

    rendition: Rendition
    domain: str
    tokens: tuple[bytes, bytes] = (_NO_TOKEN, _NO_TOKEN)


@dataclass(slots=True)
class NoticeSender:
    """Belongs to one process and one event loop; sends one notice at a time.

    Daily caps are for issues: notices are neither counted nor held up by them.
    """

    database: Database
    offload: Offload
    pace: Pace
    press: Press
    delivery_ids: DeliverySigner
    links: NoticeLinks
    clock: Clock
    lines: LineKeeper
    stopping: Callable[[], bool]
    limits: Limits
    # None where nothing can set the database back: there is no journal but this process's.
    books: Reconciler | None = None
    _routes: Routes = field(init=False)

    def __post_init__(self) -> None:
        """As the bulk of this process is sent: by the order or the weights of the relays."""
        self._routes = Routes(self.limits, self.clock.now)

    async def send(self, notice: int) -> bool:
        """Whether the relay took the notice now; a hint about one that is done, held or not due does nothing."""
        if self.stopping():
            return False
        lines = await self.lines.ready()
        held, printed = await self.offload.database(lambda: self._prepare(notice, lines[0].sender))
        if held is None or printed is None:
            return False
        faults.point("notice-claimed")
        line, hindrance = await self._way(lines)
        if line is None:
            await self._give_back(held, hindrance)
            return False
        # The second is counted from before the question, not from the answer.
        good_until = suspended_monotonic() + GATE_SECONDS
        # From the gate on: what a worker that must stop could not write down is decided by its journal.
        async with self.lines.accounted():
            gated = await self._gate(held, line)
            if gated is None:
                return False
            faults.point("notice-gated")
            outcome = await self._spoken(line, held, gated, printed, good_until)
            faults.point("notice-spoken")
            state = await self._record(held, outcome)
            faults.point("notice-recorded")
        _log.info("notice-sent", notice=notice, kind=held.kind, state=state.label, code=outcome.code)
        return state is DeliveryState.ACCEPTED

    def _prepare(self, notice: int, sender: int) -> tuple[Notice | None, Printed | None]:
        found = believing(self.database, self.books, lambda session: self._claim(session, notice, sender))
        if found is None:
            return None, None
        held, edited_by = found
        try:
            if edited_by is None:
                raise InvalidInputError("there is no publication, and so no sender; import one")
            if held.kind == NEWEST_ISSUE:
                return held, self._issue(held, edited_by)
            return held, self._printed(held, edited_by)
        except TydzenError as error:
            # Templates and settings can be mended; the fence counts how often that was hoped for.
            now = self.clock.now()
            due = next_attempt(held.made_at, held.fence, now, 0.5)
            state = DeliveryState.EXPIRED if due is None else DeliveryState.DEFERRED
            with self.database.begin() as session:
                store.give_back(session, held, state, due_at=due or now, reason=str(error))
            _log.error("notice-unprintable", notice=notice, kind=held.kind, error=str(error))
            return held, None

    def _claim(self, session: Session, notice: int, sender: int) -> tuple[Notice, Publication | None] | None:
        if self.limits.stale:
            self.limits.read(session, self.clock.now())
        held = store.claim(session, notice, sender=sender, lease_seconds=_LEASE_SECONDS)
        return None if held is None else (held, publication.find(session))

    def _issue(self, held: Notice, edited_by: Publication) -> Printed | None:
        with self.database.read() as session:
            rendition = newest_issue.printed(session, self.press, held.parameters)
        if rendition is None:
            # The welcome says what holds; once texts are approved again it is the issue of then, and no news.
            with self.database.begin() as session:
                reason = SkipReason.NO_EDITION.value
                store.give_back(session, held, DeliveryState.SKIPPED, due_at=self.clock.now(), reason=reason)
            _tell_skipped(held, reason)
            return None
        tokens = self.links.tokens(held.parameters["links"])
        both = tokens["unsubscribe"].encode(), tokens["preferences"].encode()
        return Printed(rendition, publication.domain_of(edited_by.sender), both)

    def _printed(self, held: Notice, edited_by: Publication) -> Printed:
        parameters = held.parameters
        if held.kind == WELCOME:
            with self.database.read() as session:
                parameters = newest_issue.welcoming(session, parameters)
        rendered = render_notice(
            held.kind,
            held.language,
            {**parameters, "tokens": self.links.tokens(held.parameters.get("links", {}))},
            publication=edited_by,
            base_url=(self.press.base_url or edited_by.base_url).rstrip("/"),
            catalogues=self.press.catalogues,
        )
        letterhead = Letterhead(
            sender=Mailbox(edited_by.titles[edited_by.languages[0]], edited_by.sender),
            subject=rendered.subject,
            content_language=held.language,
            reply_to=Mailbox("", edited_by.reply_to) if edited_by.reply_to else None,
        )
        rendition = notice_rendition(letterhead, Body(rendered.html, rendered.text))
        return Printed(rendition, publication.domain_of(edited_by.sender))

    async def _way(self, lines: Sequence[Line]) -> tuple[Line | None, str]:
        """A line with room, whose tokens are taken; else what hinders. Waits a moment for a session with a relay."""
        try:
            line = await self._line(lines)
            await self._tokens(line)
        except TimeoutError:
            troubles = [line.wire.trouble for line in lines if line.wire.trouble]
            return None, "; ".join(troubles) or "no session with the relay came free"
        except UnavailableError as error:
            return None, str(error)
        return line, ""

    async def _line(self, lines: Sequence[Line]) -> Line:
        """One with room; raises TimeoutError where none has any in time, or this worker must stop."""
        room = asyncio.ensure_future(self._routes.room(lines, lambda _line: 1, despite_caps=True))
        until = suspended_monotonic() + _ROOM_SECONDS
        try:
            while not (room.done() or self.stopping() or suspended_monotonic() >= until):
                await asyncio.wait((room,), timeout=_SIGN_OF_LIFE)
            if room.done():
                return room.result()[0]
        finally:
            room.cancel()
        raise TimeoutError

    async def _tokens(self, line: Line) -> None:
        """Take the tokens without waiting for them, so that the weekly run waits instead."""
        rates = {scope: self.limits.rate(scope) for scope in (INSTALLATION, relay_scope(line.relay))}
        limited = {scope: rate for scope, rate in rates.items() if rate}
        if limited:
            await self.offload.pace(lambda: self.pace.reserve_all(limited, 1))

    async def _give_back(self, held: Notice, hindrance: str) -> None:
        due = self.clock.now() + notices.RING_AGAIN
        await self._certainly(
            held, lambda session: store.give_back(session, held, DeliveryState.PENDING, due_at=due, reason=hindrance)
        )
        _log.warning("notice-waits", notice=held.id, kind=held.kind, reason=hindrance)

    async def _gate(self, held: Notice, line: Line) -> Gated | None:
        try:
            now = self.clock.now()
            passed = await self._transaction(
                lambda session: store.pass_gate(session, held, sender=line.sender, now=now)
            )
        except DatabaseAwayError:
            # Nobody knows whether this was committed, but nothing was written yet: take it back.
            due = self.clock.now() + notices.RING_AGAIN
            await self._certainly(held, lambda session: store.take_back(session, held, due_at=due))
            return None
        except (UnknownKeyError, SpoiledAddressError) as error:
            # Of the gate nothing was committed: it is pending, and ours.
            await self._certainly(held, partial(_unopened, held=held, error=error, now=self.clock.now()))
            return None
        if isinstance(passed, SkipReason):
            _tell_skipped(held, passed.value)
            return None
        return passed

    async def _spoken(self, line: Line, held: Notice, gated: Gated, printed: Printed, good_until: float) -> Outcome:
        """What the relay says; when this worker must stop, the wire gives back what is not past its dot."""
        try:
            letter = self._letter(held, gated, printed, good_until)
        except InvalidInputError as error:
            number = notices.journal_id(held.id)
            return Outcome(
                number, gated.attempt, ReplyClass.HARD, 0, "5.1.3", str(error), Phase.MAIL, "", past_dot=False
            )
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def regate(_letter: Letter) -> float | None:
            again = suspended_monotonic() + GATE_SECONDS
            try:
                now = self.clock.now()
                still = await self._transaction(lambda session: store.still_open(session, held, gated.attempt, now=now))
            except DatabaseAwayError:
                return None
            return again if still else None

        line.wire.submit([letter], answer.set_result, regate=regate)
        while not answer.done():
            await asyncio.wait((answer,), timeout=_SIGN_OF_LIFE)
            if self.stopping():
                line.wire.stop()
        return answer.result()

    def _letter(self, held: Notice, gated: Gated, printed: Printed, good_until: float) -> Letter:
        number = _WIRE_NUMBERS + held.id
        values = SlotValues(
            *printed.tokens,
            envelope_address(gated.address).encode(),
            f"<{self.delivery_ids.message_id(number)}@{printed.domain}>".encode(),
            format_datetime(self.clock.now()).encode(),
        )
        mail_from = f"{self.delivery_ids.envelope(number)}@{printed.domain}"
        return Letter(
            notices.journal_id(held.id),
            gated.attempt,
            gated.address,
            mail_from,
            printed.rendition,
            values,
            good_until,
        )

    async def _record(self, held: Notice, outcome: Outcome) -> DeliveryState:
        now = self.clock.now()
        state, due = notices.result(outcome.reply_class, made_at=held.made_at, attempt=outcome.attempt, now=now)
        words = (outcome.reply_class.value, str(outcome.code or ""), outcome.enhanced or "", outcome.text)
        reason = " ".join(filter(None, words)) if state is not DeliveryState.ACCEPTED else None
        await self._certainly(
            held, lambda session: store.record(session, held.id, outcome.attempt, state, due_at=due, reason=reason)
        )
        return state

    async def _certainly(self, held: Notice, work: Callable[[Session], _Value]) -> _Value:
        """Run `work` in a transaction, again and again while the database is away; it may be repeated.

        A worker that must stop does so for seconds only, and then raises DatabaseAwayError.
        """
        return await until_there(self.offload, self._work(work), Patience(self.stopping), notice=held.id)

    async def _transaction(self, work: Callable[[Session], _Value]) -> _Value:
        return await self.offload.database(self._work(work))

    def _work(self, work: Callable[[Session], _Value]) -> Callable[[], _Value]:
        def run() -> _Value:
            with self.database.begin() as session:
                return work(session)

        return run


def _unopened(session: Session, *, held: Notice, error: ConfigurationError, now: dt.datetime) -> None:
    """A missing key is waited for, as it is for letters; a damaged address is none, and never will be."""
    state, due, reason = DeliveryState.REFUSED, now, f"{ReplyClass.CONTENT.value}: {error}"
    if isinstance(error, UnknownKeyError):
        again = now + KEY_AGAIN
        state, due, reason = DeliveryState.DEFERRED, again, Hindrance.KEY.value
        if again > held.made_at + GIVE_UP_AFTER:
            state = DeliveryState.EXPIRED
    store.give_back(session, held, state, due_at=due, reason=reason)
    _log.error("notice-unopened", notice=held.id, kind=held.kind, state=state.label, error=str(error))


def _tell_skipped(held: Notice, reason: str) -> None:
    _log.info("notice-skipped", notice=held.id, kind=held.kind, reason=reason)
