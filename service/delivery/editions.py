"""Editions of a mailing: printed once per chain that has readers, frozen by hash, never per reader."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from service.delivery.press import Press
from service.domain.chains import read_edition_key
from service.domain.content import Edition, Issue, Publication, edition
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


def shown(content: Content, chain: str) -> Edition | None:
    """The edition of `chain` (an edition's key) as the texts are now; None where nothing is approved for it."""
    return edition(content.publication, content.issue, read_edition_key(chain)[0])


def freeze(
    session: Session, mailing: int, content: Content, chain: str, press: Press, *, now: dt.datetime
) -> int | None:
    """The id of the mailing's rendition for `chain` (an edition's key), printed now if need be; None without edition.

    One that a correction withdrew comes back with a correction alone.

    Raises UnprintableError naming the chain and what is wrong with it.
    """
    known = renditions.newest(session, mailing).get(chain)
    if known is not None:
        return None if known.withdrawn else known.id
    made = shown(content, chain)
    if made is None:
        return None
    try:
        rendered, rendition = press.printed(made, text_only=read_edition_key(chain)[1])
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
