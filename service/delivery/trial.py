"""A trial: one marked mail of an edition to anyone, which is no delivery and counts nowhere."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets

from service.clock import suspended_monotonic
from service.delivery import editions
from service.delivery.letters import Stationery
from service.delivery.limits import Limits
from service.delivery.line import LineKeeper
from service.delivery.press import Press
from service.delivery.routes import Routes
from service.domain.chains import Chain
from service.domain.content import edition
from service.domain.errors import CheckFailedError
from service.mail.letter import Outcome
from service.mail.segments import Rendition
from service.store import Database, publication
from service.store.gate import Recipient

MARK = "[test] "
_ROOM_SECONDS = 30.0
_GOOD_SECONDS = 60.0
# Above every delivery's number, so that no id of a trial can ever be taken for one's.
_NUMBERS = 1 << 62


def printed(database: Database, press: Press, week: str, chain: Chain) -> tuple[Rendition, str]:
    """The marked rendition of the issue for `chain`, and the sender's domain in A-labels.

    Raises NotFoundError for an unknown issue, CheckFailedError where nothing is approved in the chain.
    """
    with database.read() as session:
        content = editions.load(session, week)
    shown = edition(content.publication, content.issue, chain)
    if shown is None:
        raise CheckFailedError(f"no article of {week} is approved in ({chain}); see: tydzen issue check {week}")
    _, rendition = press.printed(shown, mark=MARK)
    return rendition, publication.domain_of(content.publication.sender)


async def send(
    lines: LineKeeper, stationery: Stationery, rendition: Rendition, domain: str, address: str, *, now: dt.datetime
) -> Outcome:
    """What the relay said of the mail to `address`; raises TimeoutError where no session came free in 30 seconds."""
    try:
        # A single mail, whatever the limits are: through the first relay that takes it.
        routes = Routes(Limits({}), lambda: now)
        line, _ = await asyncio.wait_for(routes.room(await lines.ready(), lambda _line: 1), _ROOM_SECONDS)
        # Its links are signed for a reader who does not exist: they work, and change nothing.
        nobody = Recipient(_NUMBERS + secrets.randbits(61), 1, secrets.token_bytes(16), 0, address)
        letters = stationery.letters(
            [nobody],
            rendition,
            sender_domain=domain,
            good_until=suspended_monotonic() + _GOOD_SECONDS,
            now=now,
        )
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        line.wire.submit([letters[0]._replace(delivery_id=0)], answer.set_result)
        return await answer
    finally:
        await lines.close()
