"""The press: turns an edition into the frozen octets that every reader of it gets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.domain.content import Edition
from service.domain.slots import MARKERS, Slot
from service.mail.message import Body, InlineImage, Letterhead, ListHeaders, Mailbox, issue_rendition
from service.mail.segments import Rendition
from service.render.catalogue import Catalogues
from service.render.edition import RenderedEdition, render_edition


@dataclass(frozen=True, slots=True)
class Press:
    """What rendering needs besides the edition; `base_url` overrides the publication's where it is set."""

    catalogues: Catalogues
    base_url: str | None

    def printed(self, edition: Edition, *, mark: str = "") -> tuple[RenderedEdition, Rendition]:
        """The edition as a person reads it, and as it is frozen, with `mark` before its subject.

        Raises InvalidInputError or ConfigurationError naming what cannot be mailed as it is.
        """
        base = (self.base_url or edition.publication.base_url).rstrip("/")
        rendered = render_edition(edition, self.catalogues, base_url=base)
        rendered = replace(rendered, subject=mark + rendered.subject)
        images = tuple(
            InlineImage(image.content_id, image.asset.media_type.removeprefix("image/"), image.asset.data)
            for image in rendered.images
        )
        body = Body(rendered.html, rendered.text, images)
        return rendered, issue_rendition(_letterhead(edition, rendered, base), body)


def _letterhead(edition: Edition, rendered: RenderedEdition, base: str) -> Letterhead:
    publication = edition.publication
    name = publication.titles[publication.languages[0]]
    owner = publication.reply_to or publication.sender
    archive = f"{base}/{edition.language}/issues/"
    return Letterhead(
        # The same name in all editions: readers, filters and reputations know a sender by it.
        sender=Mailbox(name, publication.sender),
        subject=rendered.subject,
        content_language=edition.language,
        reply_to=Mailbox("", publication.reply_to) if publication.reply_to else None,
        list_headers=ListHeaders(
            id=publication.list_id,
            name=name,
            unsubscribe_url=f"{base}/u/{MARKERS[Slot.UNSUBSCRIBE]}",
            unsubscribe_mailto=None,
            help_url=archive,
            owner=owner,
            archive_url=archive,
        ),
        feedback_id=f"{edition.issue.week}:{publication.key}:weekly:{publication.sender.rpartition('@')[2]}",
    )
