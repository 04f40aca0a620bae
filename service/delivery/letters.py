"""From a recipient who has passed the gate to the letter on the wire: tokens, ids, the frozen rendition."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from email.utils import format_datetime

from service.domain.errors import InvalidInputError
from service.domain.providers import provider_of
from service.domain.slots import SlotValues
from service.domain.tokens import DeliverySigner, LinkSigner
from service.mail.address import envelope_address
from service.mail.letter import Letter
from service.mail.segments import Rendition
from service.store.gate import Recipient

# Stands in the To header of a letter that the wire refuses to send at all, because its address is none.
_UNMAILABLE = b"unmailable@invalid"


@dataclass(frozen=True, slots=True)
class Stationery:
    """What letters carry besides the rendition: signed links and ids, the same over retries."""

    unsubscribe_links: LinkSigner
    preference_links: LinkSigner
    delivery_ids: DeliverySigner

    def letters(
        self,
        recipients: list[Recipient],
        rendition: Rendition,
        *,
        sender_domain: str,
        good_until: float,
        now: dt.datetime,
    ) -> list[Letter]:
        """One letter per recipient, good until `good_until` on the clock that counts suspended time."""
        date = format_datetime(now).encode()
        at_domain = f"@{sender_domain}"
        end = f"{at_domain}>".encode()
        return [
            Letter(
                recipient.delivery,
                recipient.attempt,
                recipient.address,
                self.delivery_ids.envelope(recipient.delivery) + at_domain,
                rendition,
                SlotValues(
                    self.unsubscribe_links.sign(recipient.subscriber).encode(),
                    self.preference_links.sign(recipient.subscriber, recipient.epoch).encode(),
                    _to(recipient.address),
                    b"<" + self.delivery_ids.message_id(recipient.delivery).encode() + end,
                    date,
                ),
                good_until,
                provider_of(recipient.address.rpartition("@")[2].lower()),
            )
            for recipient in recipients
        ]


def _to(address: str) -> bytes:
    try:
        return envelope_address(address).encode()
    except InvalidInputError:
        return _UNMAILABLE
