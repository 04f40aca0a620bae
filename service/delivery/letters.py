"""From a recipient who has passed the gate to the letter on the wire: tokens, ids, the frozen rendition."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from email.utils import format_datetime
from itertools import repeat

from service.domain.delivery import Hindrance
from service.domain.errors import InvalidInputError
from service.domain.providers import provider_of
from service.domain.replies import Phase, ReplyClass
from service.domain.slots import SlotValues
from service.domain.tokens import DeliverySigner, LinkSigner
from service.mail.address import envelope_address
from service.mail.letter import Letter, Outcome
from service.mail.segments import Rendition
from service.store.gate import Recipient

# Stands in the To header of a letter that the wire refuses to send at all, because its address is none.
_UNMAILABLE = b"unmailable@invalid"
# How soon somebody looks again whether the keyring's file has the key of an address.
KEY_AGAIN = dt.timedelta(minutes=5)


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
        end = f"{at_domain}>"
        subscribers = [one.subscriber for one in recipients]
        unsubscribe = self.unsubscribe_links.sign_all(subscribers, repeat(0, len(subscribers)))
        preferences = self.preference_links.sign_all(subscribers, [one.epoch for one in recipients])
        ids = self.delivery_ids.ids([one.delivery for one in recipients])
        letters = []
        for one, leave, prefer, (message_id, envelope) in zip(recipients, unsubscribe, preferences, ids, strict=True):
            delivery, attempt, _, _, address, untried = one
            # Made of tuples, by place: by a call with its arguments a named tuple takes three times as long.
            values = SlotValues._make((leave, prefer, _to(address), f"<{message_id}{end}".encode(), date))
            provider = provider_of(address.rpartition("@")[2].lower())
            sender = envelope + at_domain
            fields = (delivery, attempt, address, sender, rendition, values, good_until, provider, untried)
            letters.append(Letter._make(fields))
        return letters


def locked(recipients: list[Recipient], now: dt.datetime) -> list[Outcome]:
    """The outcomes of those whose address has a key that is missing here: they wait for it, and nothing is written."""
    due = now + KEY_AGAIN
    return [
        Outcome(
            *(one.delivery, one.attempt, ReplyClass.NOT_SENT, 0, None, Hindrance.KEY, Phase.MAIL, ""),
            past_dot=False,
            due=due,
        )
        for one in recipients
    ]


def _to(address: str) -> bytes:
    if address.isascii():
        return address.encode()  # as it is, or the wire refuses it whole
    try:
        return envelope_address(address).encode()
    except InvalidInputError:
        return _UNMAILABLE
