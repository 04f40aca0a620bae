"""Readers who leave or read otherwise, and an operator who sends, stops, corrects and has mailings go on."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from service.audience import departures as leaving
from service.delivery import control, release
from service.delivery.correcting import Proofreader
from service.domain.chains import Chain
from service.domain.content import TextStatus
from service.domain.errors import CheckFailedError, ConflictError
from service.domain.mailing import MailingState
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import issues, subscribers, suppressions
from tests.factories import unapproved
from tests.simulation import substitutes
from tests.simulation.facts import Course
from tests.simulation.templates import OTHER_CHAIN, TITLE, WEEK, TinyPress, titled_issue

if TYPE_CHECKING:
    from tests.simulation.seed import Run

SECOND_WEEK = "2019-W23"
# As long as the first one's, so that a letter's length tells nothing.
SECOND_TITLE = "other"
_WEEK = Week.parse("2019-W23")
_PROOFS = Proofreader(TinyPress(), unapproved)


def second_week(seed: int) -> Random | None:
    """The die for those seeds in which a second issue is sent beside the first; one of its own, as is that of sleep."""
    die = Random(f"second week {seed}")
    return die if die.random() < 1 / 3 else None


class Readers:
    """What they do, at moments that the seed chooses; each deed is a transaction that nothing goes wrong with."""

    def __init__(self, run: Run) -> None:
        self.world = run.world
        self.site = run.site
        self.addresses = run.template.addresses
        self.facts = run.facts
        self.counts = run.counts

    def goodbye(self) -> None:
        rng = self.world.rng
        with self.site.database.begin() as session:
            address = rng.choice(self.addresses)
            reader = subscribers.find(session, address)
            if reader is None or address in self.facts.gone:
                return
            how = rng.choice(("leaves", "is erased", "is suppressed"))
            if how == "leaves":
                assert leaving.leave(session, reader, _WEEK) or reader.status is not SubscriberStatus.ACTIVE
            elif how == "is erased":
                suppressions.add(session, reader.address_hash, SuppressionReason.ERASED, _WEEK)
                subscribers.erase(session, reader.id, week=_WEEK)
            else:
                suppressions.add(session, reader.address_hash, SuppressionReason.COMPLAINED, _WEEK)
        self.facts.gone[address] = self.world.now
        self.counts["goodbyes"] += 1
        self.world.tell("reader", f"{address.partition('@')[0]} {how}")

    def change_chain(self) -> None:
        with self.site.database.begin() as session:
            reader = subscribers.find(session, self.world.rng.choice(self.addresses))
            if reader is not None:
                chain = self.world.rng.choice(("en", "ru,en", OTHER_CHAIN, "be"))
                subscribers.set_chain(session, reader.id, Chain(tuple(chain.split(","))), week=_WEEK)
                self.world.tell("reader", f"now reads {chain}")


class Operator:
    """Has one mailing, or two, in hand; where there are two, chance says which one a deed is for."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.world = run.world
        self.site = run.site
        self.addresses = run.template.addresses
        self.counts = run.counts
        self.courses = run.facts.courses
        self.courses[run.template.mailing] = Course(WEEK, frozenset(self.addresses), TITLE, planned=run.planned)
        self.die = second_week(run.world.seed)
        self.deeds_to_come = 0  # mailings that are stopped and will go on
        self._drafts: dict[int, str] = {}  # titles that were imported and wait for an approval
        self._corrections = 1
        self._intentions: list[tuple[str, int, float]] = []  # to stop which of the two, and when
        self._claims_left: tuple[int, str, int] | None = None  # until one is stopped for that
        if self.die is not None:
            run.relay.on_letter = self._look
            run.site.on_claim = self._note_claim

    # Whatever is done to any mailing

    def _any(self) -> int:
        return next(iter(self.courses)) if self.die is None else self.die.choice(list(self.courses))

    def _control(self, verb: str, mailing: int, *arguments: Any, **more: Any) -> bool:
        try:
            with self.site.database.begin() as session:
                getattr(control, verb)(session, mailing, *arguments, actor="test", now=substitutes.now.wall(), **more)
        except ConflictError:
            return False
        except CheckFailedError as error:
            self.counts["refused corrections"] += 1
            self.world.tell("operator", f"may not {verb}: {error}")
            return False
        self.world.tell("operator", verb + self._named(mailing))
        return True

    def _named(self, mailing: int) -> str:
        return f" of mailing {mailing}" if self.die is not None else ""

    def _stop(self, verb: str, mailing: int) -> bool:
        stopped = self._control(verb, mailing)
        if stopped:
            self.courses[mailing].stop(self.world.now)
        return stopped

    def pause(self) -> None:
        mailing = self._any()
        if self._stop("pause", mailing):
            self.world.later(self.world.rng.choice((0.1, 3.0, 100.0)), None, self.resume, mailing)

    def resume(self, mailing: int) -> None:
        if self._control("resume", mailing, self.site, proofs=_PROOFS):
            self._goes_on(mailing)

    def cancel(self) -> None:
        if self.world.rng.random() < 0.5:
            self._stop("cancel", self._any())

    def retry(self) -> None:
        self._retry(self._any())

    def _retry(self, mailing: int) -> None:
        before = self._run.state(mailing)
        if not self._control("retry", mailing, self.site, unapproved, proofs=_PROOFS):
            return
        # What is paused stays so, and so does what was cancelled when there was nobody left to mail.
        if before is MailingState.CANCELLED and self._run.state(mailing) is not before:
            self.counts["cancelled and retried"] += 1
            self._goes_on(mailing)

    def _goes_on(self, mailing: int) -> None:
        course = self.courses[mailing]
        if course.title != course.titles[-1][1]:
            self.counts["corrections"] += 1
        course.go_on(self.world.now, course.title)

    def change_rate(self) -> None:
        self._control("set_rate", self._any(), self.world.rng.choice((0.0, 1.5, 20.0)))

    # The second mailing, and corrections

    def choose(self, horizon: float) -> None:
        """In those seeds that have a second mailing: when it begins, and whether one of the two is stopped on its way."""
        if self.die is None:
            return
        die = self.die
        self.world.later(die.random() * min(die.choice((0.1, 1.0, 5.0)), horizon), None, self._send_second)
        for _ in range(die.choice((0, 1, 1, 2, 2))):
            self._intend_to_stop()
        # Who chose other languages on the way gets an edition that is printed on the way.
        for _ in range(die.choice((0, 0, 1, 3))):
            moment = die.random() * min(die.choice((0.1, 1.0, 5.0)), horizon)
            self.world.later(moment, None, self._run.readers.change_chain)

    def _intend_to_stop(self) -> None:
        """One of the two mailings: when that share of its letters has been written, at a claim, or at some moment."""
        die = self.die
        verb, which = die.choice(("pause", "pause", "cancel")), die.randrange(2)
        occasion = die.choice(("letters", "letters", "claim", "moment"))
        if occasion == "letters":
            self._intentions.append((verb, which, die.random()))
        elif occasion == "claim":
            self._claims_left = die.randrange(8), verb, which
        else:
            self.world.later(die.random() * die.choice((0.1, 0.5, 3.0)), None, self._stop_to_correct, verb, which)

    def _note_claim(self) -> None:
        """A batch has been claimed, and is not prepared yet: what a correction changes in between is the newest."""
        if self._claims_left is None:
            return
        left, verb, which = self._claims_left
        self._claims_left = (left - 1, verb, which) if left else None
        if not left:
            self.world.later(0, None, self._stop_to_correct, verb, which)

    def _send_second(self) -> None:
        """Beside the first, to all or to some of the same readers."""
        die = self.die
        chosen = list(self.addresses)
        if die.random() < 0.6:
            chosen = die.sample(chosen, die.randrange(1, len(chosen) + 1))
        now = substitutes.now.wall()
        with self.site.database.begin() as session:
            issues.save(session, titled_issue(SECOND_WEEK, SECOND_TITLE), now)
            audience = None
            if len(chosen) < len(self.addresses):
                found = (subscribers.find(session, address) for address in chosen)
                audience = [reader.id for reader in found if reader is not None]
            bell = self.site
            mailing = release.send(session, SECOND_WEEK, bell, unapproved, actor="test", now=now, audience=audience)
        self.courses[mailing] = Course(SECOND_WEEK, frozenset(chosen), SECOND_TITLE)
        if die.random() < 0.15:
            self.site.planner_dies_at = die.randrange(1, 14)
        self.counts["second mailings"] += 1
        self.world.tell("operator", f"sends mailing {mailing} to {len(chosen)} readers")

    def _look(self) -> None:
        """A letter has been written: whether it is time to stop its mailing, now or in a moment. In calm, too."""
        courses = list(self.courses.items())
        for intention in list(self._intentions):
            verb, which, share = intention
            if which < len(courses):
                mailing, course = courses[which]
                if self._written(mailing) >= share * len(course.audience):
                    self._intentions.remove(intention)
                    moment = self.die.choice((0.0, 0.001, 0.02, 0.3)) * self.die.random()
                    self.world.later(moment, None, self._stop_to_correct, verb, which)

    def _stop_to_correct(self, verb: str, which: int) -> None:
        """Pause or cancel that mailing, if it can be; correct its issue, perhaps; and have it go on."""
        die = self.die
        mailing = list(self.courses)[min(which, len(self.courses) - 1)]
        if not self._stop(verb, mailing):
            return
        go_on = self.resume if verb == "pause" else self._retry
        then = [self._import, self._approve] if die.random() < 0.8 else []
        if then and die.random() < 0.2:
            then.insert(1, go_on)  # before anybody has approved it: that is refused
        after = 0.0
        for deed in (*then, go_on):
            after += die.choice((0.0, 0.02, 0.5, 4.0)) * die.random()
            self.world.later(after, None, deed, mailing)
        self.deeds_to_come += 1
        self.world.later(after, None, self._done)

    def _done(self) -> None:
        self.deeds_to_come -= 1
        if self.die.random() < 0.3:
            self._intend_to_stop()

    def _written(self, mailing: int) -> int:
        issue = self.courses[mailing].issue
        return sum(dot.title.startswith(issue) for dot in self._run.relay.dots)

    def _import(self, mailing: int) -> None:
        """Store another text of the issue, which nobody has approved yet: the mailing must not go on meanwhile."""
        if self._run.state(mailing) not in {MailingState.PAUSED, MailingState.CANCELLED}:
            return
        self._corrections += 1
        week, title = self.courses[mailing].week, f"{self.courses[mailing].issue} {self._corrections}"
        with self.site.database.begin() as session:
            issues.save(session, titled_issue(week, title, TextStatus.READY), substitutes.now.wall())
        self._drafts[mailing] = title
        self.world.tell("editor", f"imports {title!r}")

    def _approve(self, mailing: int) -> None:
        if mailing not in self._drafts:
            return
        week = Week.parse(self.courses[mailing].week)
        with self.site.database.begin() as session:
            assert issues.approve(session, week, None, substitutes.now.wall())
        self.courses[mailing].title = self._drafts.pop(mailing)
        self.world.tell("editor", f"approves {self.courses[mailing].title!r}")

    def calm(self) -> None:
        """Have what is stopped go on, mostly: what is paused must not be all that is ever asked about."""
        for mailing in list(self.courses):
            state = self._run.state(mailing)
            if state is MailingState.PAUSED and self.world.rng.random() < 0.9:
                self._approve(mailing)
                self.resume(mailing)
            elif state is MailingState.CANCELLED and self.die is not None and self.die.random() < 0.5:
                self._approve(mailing)
                self._retry(mailing)
