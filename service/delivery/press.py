"""The press: turns an edition into the frozen octets that every reader of it gets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.domain.content import Edition, ShownArticle
from service.domain.errors import InvalidInputError, TydzenError
from service.domain.slots import MARKERS, Slot
from service.mail.message import Body, InlineImage, Letterhead, ListHeaders, Mailbox, issue_rendition
from service.mail.segments import Rendition
from service.render.catalogue import Catalogues
from service.render.edition import RenderedEdition, render_edition
from service.store.publication import domain_of


@dataclass(frozen=True, slots=True)
class Press:
    """What rendering needs besides the edition; `base_url` overrides the publication's where it is set.

    `leave_address` is the mailbox that takes mails to unsubscribe, if there is one.
    """

    catalogues: Catalogues
    base_url: str | None
    leave_address: str | None = None

    def printed(
        self, edition: Edition, *, mark: str = "", text_only: bool = False
    ) -> tuple[RenderedEdition, Rendition]:
        """The edition as a person reads it, and as it is frozen, with `mark` before its subject.

        Raises InvalidInputError or ConfigurationError naming what cannot be mailed as it is, and whose article it is.
        """
        try:
            return self._printed(edition, mark, text_only=text_only)
        except MemoryError:
            raise  # the machine's trouble, and no edition's
        except Exception as error:  # whatever it is, it would be the same at each try
            words = str(error) if isinstance(error, TydzenError) else f"it breaks the press ({type(error).__name__})"
            culprit = self._culprit(edition)
            if culprit is None and isinstance(error, TydzenError):
                raise
            place = f'article "{culprit.article.slug}" in {culprit.text.language}: ' if culprit else ""
            raise InvalidInputError(f"{place}{words.removeprefix(place)}") from None

    def _printed(self, edition: Edition, mark: str, *, text_only: bool = False) -> tuple[RenderedEdition, Rendition]:
        base = (self.base_url or edition.publication.base_url).rstrip("/")
        rendered = render_edition(edition, self.catalogues, base_url=base)
        rendered = replace(rendered, subject=mark + rendered.subject)
        if text_only:
            rendered = replace(rendered, html="", images=())
        images = tuple(
            InlineImage(image.content_id, image.asset.media_type.removeprefix("image/"), image.asset.data)
            for image in rendered.images
        )
        body = Body(rendered.html, rendered.text, images)
        return rendered, issue_rendition(_letterhead(edition, rendered, base, self.leave_address), body)

    def _culprit(self, edition: Edition) -> ShownArticle | None:
        """The first article that cannot be printed even by itself; None where a plain one could not be, either."""
        first = edition.articles[0]
        if not self._prints(edition, replace(first, text=replace(first.text, title="-", lead="", body="-"))):
            return None
        return next((shown for shown in edition.articles if not self._prints(edition, shown)), None)

    def _prints(self, edition: Edition, shown: ShownArticle) -> bool:
        try:
            self._printed(replace(edition, articles=(shown,)), "")
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  # as in `printed`
            return False
        return True


def _leave_mailto(leave_address: str | None) -> str | None:
    """The address whose mails let the reader leave: the token stands in it, so that nothing else need be read."""
    if leave_address is None:
        return None
    local, _, domain = leave_address.rpartition("@")
    return f"{local}+{MARKERS[Slot.UNSUBSCRIBE]}@{domain}"


def _letterhead(edition: Edition, rendered: RenderedEdition, base: str, leave_address: str | None) -> Letterhead:
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
            unsubscribe_mailto=_leave_mailto(leave_address),
            help_url=archive,
            owner=owner,
            archive_url=archive,
        ),
        feedback_id=f"{edition.issue.week}:{publication.key}:weekly:{domain_of(publication.sender)}",
    )
