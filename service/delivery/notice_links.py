"""The signed links of notices: a notice keeps whom a link is about, and the token is made when it is printed.

So no token lies in the database, where whoever reads it could use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.tokens import ConfirmationSigner, LinkSigner, RequestSigner


@dataclass(frozen=True, slots=True)
class NoticeLinks:
    """What signs the links that a notice may hold."""

    confirm: ConfirmationSigner
    preferences: LinkSigner
    unsubscribe: LinkSigner
    request: RequestSigner

    def tokens(self, links: Mapping[str, Any]) -> dict[str, str]:
        """The tokens by purpose, from (id in hexadecimal, hour or epoch) by purpose; a purpose unknown here has none.

        A template that names it says so: a newer program's notice is then deferred, not spoiled.
        """
        signers: dict[str, Callable[[bytes, int], str]] = {
            "confirm": self.confirm.sign,
            "preferences": self.preferences.sign,
            "unsubscribe": self.unsubscribe.sign,
            "request": self.request.sign,
        }
        return {
            purpose: signers[purpose](bytes.fromhex(named), int(number))
            for purpose, (named, number) in links.items()
            if purpose in signers
        }
