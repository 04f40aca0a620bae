"""Stop, correct, continue: when a paused mailing goes on, whoever was not mailed yet gets the issue as it is now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.delivery import editions
from service.delivery.press import Press
from service.delivery.release import Check, require_sendable
from service.domain.chains import read_edition_key
from service.domain.content import edition
from service.domain.errors import CheckFailedError, TydzenError
from service.domain.weeks import Week
from service.store import Session, corrections, issues, renditions
from service.store.mailings import Mailing


class Proofs(Protocol):
    """What an issue is printed and judged with; `Proofreader` is the real one."""

    def correct(self, session: Session, mailing: Mailing, *, now: dt.datetime) -> Sequence[str]:
        """The chains whose readers get something else from now on; raises CheckFailedError, and nothing changes."""
        ...


@dataclass(frozen=True, slots=True)
class Proofreader:
    """Prints each edition of a mailing anew, and freezes those that differ from what was frozen before."""

    press: Press
    check: Check

    def correct(self, session: Session, mailing: Mailing, *, now: dt.datetime) -> Sequence[str]:
        """As `Proofs.correct`."""
        issues.hold(session, Week.parse(mailing.week))
        content = editions.load(session, mailing.week)
        changed = []
        for chain, known in renditions.newest(session, mailing.id).items():
            languages, text_only = read_edition_key(chain)
            shown = edition(content.publication, content.issue, languages)
            if shown is None:
                raise CheckFailedError(
                    f"mailing {mailing.id} cannot go on: no article of issue {mailing.week} is approved for readers of "
                    f"{chain} any more; approve one: tydzen issue approve {mailing.week}"
                )
            try:
                rendered, rendition = self.press.printed(shown, text_only=text_only)
            except TydzenError as error:
                raise editions.UnprintableError(
                    f"mailing {mailing.id} cannot go on: the {chain} edition of {mailing.week} cannot be mailed: "
                    f"{error}"
                ) from None
            if rendition.digest != known.digest:
                changed.append((chain, known.revision + 1, rendered, rendition))
        if not changed:
            return ()
        self._require_approved(session, mailing)
        for chain, revision, rendered, rendition in changed:
            renditions.save(
                session,
                mailing.id,
                chain,
                subject=rendered.subject,
                content=rendition.to_bytes(),
                digest=rendition.digest,
                html_octets=len(rendered.html.encode()),
                now=now,
                revision=revision,
            )
        corrections.end_claims(session, mailing.id)
        return [chain for chain, *_ in changed]

    def _require_approved(self, session: Session, mailing: Mailing) -> None:
        waiting = corrections.unapproved_since(session, mailing.week, mailing.created_at)
        if waiting:
            named = "".join(f"\n  {slug}.{language}.md: {status}" for slug, language, status in waiting)
            raise CheckFailedError(
                f"mailing {mailing.id} cannot go on: issue {mailing.week} was changed, and these texts are not "
                f"approved; approve them (tydzen issue approve {mailing.week}) or import the issue as it was:{named}"
            )
        require_sendable(session, mailing.week, self.check)
