"""Editions of a mailing: printed once per chain that has readers, frozen by hash, never per reader."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from service.delivery.press import Press
from service.domain.chains import read_edition_key
from service.domain.content import Issue, Publication, edition
from service.domain.errors import CheckFailedError, TydzenError
from service.domain.weeks import Week
from service.store import Session, issues, publication, renditions


class UnprintableError(CheckFailedError):
    """An edition cannot be rendered or mailed as it is; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a mailing's editions are made of."""

    publication: Publication
    issue: Issue


def load(session: Session, week: str) -> Content:
    """The publication and that issue; raises NotFoundError."""
    return Content(publication.load(session), issues.load(session, Week.parse(week)))


def freeze(
    session: Session, mailing: int, content: Content, chain: str, press: Press, *, now: dt.datetime
) -> int | None:
    """The id of the mailing's rendition for `chain` (an edition's key), printed now if need be; None without edition.

    Raises UnprintableError naming the chain and what is wrong with it.
    """
    known = renditions.ids(session, mailing).get(chain)
    if known is not None:
        return known
    languages, text_only = read_edition_key(chain)
    shown = edition(content.publication, content.issue, languages)
    if shown is None:
        return None
    try:
        rendered, rendition = press.printed(shown, text_only=text_only)
    except TydzenError as error:
        raise UnprintableError(f"the {chain} edition of {content.issue.week} cannot be mailed: {error}") from None
    return renditions.save(
        session,
        mailing,
        chain,
        subject=rendered.subject,
        content=rendition.to_bytes(),
        digest=rendition.digest,
        html_octets=len(rendered.html.encode()),
        now=now,
    )
