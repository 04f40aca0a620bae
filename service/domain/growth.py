"""How the number of readers changes: who comes to be mailed, who ceases to be, and who reads other languages now."""

from __future__ import annotations

from enum import StrEnum

from service.domain.subscriber import SubscriberStatus


class Change(StrEnum):
    """What is counted of readers, by week and chain. Only active readers count: nobody comes twice or leaves twice.

    For each chain, `active = confirmed + added + lifted + changed - left - bounced` since the counting began.
    """

    # By the link of a confirmation.
    CONFIRMED = "confirmed"
    # By an operator's word or a file.
    ADDED = "added"
    # Had bounced, and is mailed again.
    LIFTED = "lifted"
    # Came from another chain, less those who went to another.
    CHANGED = "changed"
    # Unsubscribed, complained or was erased.
    LEFT = "left"
    # The mailbox is gone.
    BOUNCED = "bounced"

    @property
    def sign(self) -> int:
        """Whether it makes readers more (1) or fewer (-1)."""
        return -1 if self in {Change.LEFT, Change.BOUNCED} else 1


def change_of(before: SubscriberStatus | None, after: SubscriberStatus | None) -> Change | None:
    """What is counted when an operator, a relay or the reader changes where a reader stands; None where nothing is.

    None for a status says that there is no row. A confirmation is counted by its own name.
    """
    active = SubscriberStatus.ACTIVE
    if before is after or active not in {before, after}:
        return None
    if after is active:
        return Change.LIFTED if before is SubscriberStatus.BOUNCED else Change.ADDED
    return Change.BOUNCED if after is SubscriberStatus.BOUNCED else Change.LEFT
