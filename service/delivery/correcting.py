"""Stop, correct, continue: when a paused mailing goes on, whoever was not mailed yet gets the issue as it is now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.delivery import editions
from service.delivery.editions import Content
from service.delivery.press import Press
from service.delivery.release import Check, require_sendable
from service.domain.chains import read_edition_key
from service.domain.errors import CheckFailedError, TydzenError
from service.domain.weeks import Week
from service.mail.segments import Rendition
from service.render.edition import RenderedEdition
from service.store import Session, corrections, interventions, issues, renditions
from service.store.interventions import Again
from service.store.mailings import Mailing


class Proofs(Protocol):
    """What an issue is printed and judged with; `Proofreader` is the real one."""

    def added(self, session: Session, mailing: Mailing) -> frozenset[str]:
        """The chains that left readers without an edition, and have one now."""
        ...

    def correct(self, session: Session, mailing: Mailing, *, added: Collection[str], now: dt.datetime) -> Sequence[str]:
        """The chains whose readers get something else from now on; raises CheckFailedError, and nothing changes."""
        ...

    def foresee(self, session: Session, mailing: Mailing, which: Again) -> Sequence[str]:
        """The chains that `correct` would return after a retry of `which`; raises what it would. Changes nothing."""
        ...


_Printed = tuple[RenderedEdition, Rendition]


@dataclass(frozen=True, slots=True)
class _Corrected:
    """An edition that is not what was frozen of it; `printed` is None where there is none any more."""

    chain: str
    revision: int
    printed: _Printed | None


@dataclass(frozen=True, slots=True)
class Proofreader:
    """Prints each edition of a mailing anew, and freezes those that differ from what was frozen before.

    One that has no article left is withdrawn where nobody waits for it, and else keeps the mailing from going on.
    """

    press: Press
    check: Check

    def added(self, session: Session, mailing: Mailing) -> frozenset[str]:
        """As `Proofs.added`."""
        without = interventions.chains_without_edition(session, mailing.id)
        if not without:
            return frozenset()
        content = editions.load(session, mailing.week)
        return frozenset(chain for chain in without if editions.shown(content, chain) is not None)

    def correct(self, session: Session, mailing: Mailing, *, added: Collection[str], now: dt.datetime) -> Sequence[str]:
        """As `Proofs.correct`."""
        issues.hold(session, Week.parse(mailing.week))
        changed = self._changed(session, mailing, corrections.chains_waiting(session, mailing.id), added)
        for one in changed:
            _freeze(session, mailing.id, one, now)
        corrected = _to_mail(changed, added)
        if corrected:
            corrections.end_claims(session, mailing.id)
        return corrected

    def foresee(self, session: Session, mailing: Mailing, which: Again) -> Sequence[str]:
        """As `Proofs.foresee`."""
        back = interventions.chains_again(session, mailing.id, which)
        waiting = corrections.chains_waiting(session, mailing.id, after_cancel=which.after_cancel) | back
        return _to_mail(self._changed(session, mailing, waiting, which.added), which.added)

    def _changed(
        self, session: Session, mailing: Mailing, waiting: Collection[str], added: Collection[str]
    ) -> list[_Corrected]:
        content = editions.load(session, mailing.week)
        newest = renditions.newest(session, mailing.id)
        changed = []
        for chain in [*newest, *sorted(set(added).difference(newest))]:
            known = newest.get(chain, renditions.NEVER_PRINTED)
            printed = self._printed(mailing, content, chain)
            if printed is None and chain in waiting:
                raise CheckFailedError(
                    f"mailing {mailing.id} cannot go on: no article of issue {mailing.week} is approved for readers of "
                    f"{chain} any more; approve one: tydzen issue approve {mailing.week}"
                )
            if known.withdrawn if printed is None else printed[1].digest == known.digest:
                continue
            changed.append(_Corrected(chain, known.revision + 1, printed))
        if any(one.printed is not None for one in changed):
            self._require_approved(session, mailing)
        elif not newest.keys() >= set(waiting):
            # Who moved on the way waits for an edition that is printed when their turn comes, of what is approved then.
            # What nobody has touched since the release did not keep that from being sent, either.
            self._require_approved(session, mailing, touched=True)
        return changed

    def _printed(self, mailing: Mailing, content: Content, chain: str) -> _Printed | None:
        shown = editions.shown(content, chain)
        if shown is None:
            return None
        try:
            return self.press.printed(shown, text_only=read_edition_key(chain)[1])
        except TydzenError as error:
            raise editions.UnprintableError(
                f"mailing {mailing.id} cannot go on: the {chain} edition of {mailing.week} cannot be mailed: {error}"
            ) from None

    def _require_approved(self, session: Session, mailing: Mailing, *, touched: bool = False) -> None:
        waiting = corrections.unapproved_since(session, mailing.week, mailing.created_at, touched=touched)
        if waiting:
            named = "".join(f"\n  {slug}.{language}.md: {status}" for slug, language, status in waiting)
            raise CheckFailedError(
                f"mailing {mailing.id} cannot go on: issue {mailing.week} was changed, and these texts are not "
                f"approved; approve them (tydzen issue approve {mailing.week}) or import the issue as it was:{named}"
            )
        require_sendable(session, mailing.week, self.check)


def _to_mail(changed: Sequence[_Corrected], added: Collection[str]) -> tuple[str, ...]:
    # One that was added may have been printed for some of its readers before.
    told = [one.chain for one in changed if one.printed is not None]
    return (*told, *sorted(set(added).difference(told)))


def _freeze(session: Session, mailing: int, one: _Corrected, now: dt.datetime) -> None:
    if one.printed is None:
        renditions.withdraw(session, mailing, one.chain, now=now, revision=one.revision)
        return
    rendered, rendition = one.printed
    renditions.save(
        session,
        mailing,
        one.chain,
        subject=rendered.subject,
        content=rendition.to_bytes(),
        digest=rendition.digest,
        html_octets=len(rendered.html.encode()),
        now=now,
        revision=one.revision,
    )
