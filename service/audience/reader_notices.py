"""Mails to one reader about the subscription itself: what they are about, and who gets them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from service.domain.chains import Chain
from service.queue import SEND_NOTICE, Bell, ring_after_commit
from service.store import Session, notices


def tell(
    session: Session,
    bell: Bell,
    kind: str,
    *,
    about: bytes,
    address: str,
    chain: Chain,
    links: Mapping[str, Any],
    now: dt.datetime,
    reader: bytes | None = None,
    **parameters: Any,
) -> None:
    """Enqueue the notice, in the chain's first language, once for each id that it is `about`.

    One that names its `reader` is forgotten with the reader (`store.notices.forget`), and names nobody once it is sent.

    `links` says whose links it holds (see `delivery/notice_links`): ids, because a token is never stored.
    """
    made = notices.add(
        session,
        kind,
        once=f"{kind}:{about.hex()}",
        address=address,
        language=chain.first,
        parameters={"chain": list(chain.languages), "links": dict(links), **parameters},
        reader=reader,
        now=now,
    )
    if made is not None:
        ring_after_commit(session, bell, SEND_NOTICE, made)
