"""What was mailed is the frozen rendition: each letter, octet by octet, as the relay took it from real workers."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
from email.utils import parsedate_to_datetime

import pytest
import sqlalchemy as sa

from service.domain.keys import Purpose
from service.domain.slots import SlotValues
from service.domain.tokens import DeliverySigner, LinkSigner
from service.mail.address import envelope_address
from service.mail.segments import Rendition
from service.store import renditions, tables
from tests.conftest import KEYRING
from tests.flow.conftest import database_url
from tests.installation import audit, installed
from tests.unit.render import samples

pytestmark = pytest.mark.slow

_DATE = re.compile(rb"^Date: ([^\r\n]+)\r\n", re.MULTILINE)


def joined(segments, values):
    """As `Segments.join` would have it, said in another way: it is part of what is asked about."""
    octets = segments.statics[0]
    for place, static in zip(segments.places, segments.statics[1:], strict=True):
        value = place.prefix + values[place.slot] + place.suffix
        octets += (base64.b64encode(value) if place.encoded else value) + static
    return octets


def ledger_of(made, mailing):
    """Each delivery with its reader, and the rendition that its batch names."""
    d, b, s = tables.deliveries, tables.batches, tables.subscribers
    rows = (
        sa.select(d.c.id, d.c.epoch, s.c.id.label("reader"), s.c.sealed, b.c.rendition_id)
        .join(b, b.c.id == d.c.batch_id)
        .join(s, s.c.id == d.c.subscriber_id)
        .where(d.c.mailing_id == mailing)
    )
    with made.database.read() as session:
        found = session.execute(rows).all()
        frozen = {row.rendition_id: renditions.get(session, row.rendition_id) for row in found}
        addresses = {row.id: session.sealer.open(row.reader, row.sealed) for row in found}
    return (
        found,
        addresses,
        {number: Rendition.from_bytes(one.content, digest=one.digest) for number, one in frozen.items()},
    )


def as_it_must_be(row, address, rendition, date, *, eight_bit):
    """The letter of one reader, from what the database holds and the keyring signs; the date alone is the letter's."""
    domain = samples.publication().sender.rpartition("@")[2].encode()
    values = SlotValues(
        LinkSigner(KEYRING, Purpose.UNSUBSCRIBE).sign(row.reader).encode(),
        LinkSigner(KEYRING, Purpose.PREFERENCES).sign(row.reader, row.epoch or 0).encode(),
        address.encode(),
        b"<%s@%s>" % (DeliverySigner(KEYRING).message_id(row.id).encode(), domain),
        date,
    )
    form = rendition.eight_bit if eight_bit else None
    return joined(form or rendition.seven_bit, values)


@pytest.mark.parametrize(
    ("kind", "hide"),
    [("postgresql", frozenset()), ("sqlite", frozenset({"CHUNKING"})), ("sqlite", frozenset({"CHUNKING", "8BITMIME"}))],
    ids=["by BDAT", "by DATA", "without 8BITMIME"],
)
def test_each_letter_is_its_frozen_rendition_with_its_readers_own_values_and_nothing_else(
    request, tmp_path, kind, hide
):
    began = dt.datetime.now(dt.UTC).replace(microsecond=0)
    with database_url(request, kind, tmp_path) as url, installed(tmp_path / "run", url, hide=hide) as made:
        made.fill(100)
        made.fill_domain("пример.рф", 5)
        for _ in range(2):
            made.start_worker(concurrency=1)
        mailing = made.send()
        made.wait_until_sent(mailing, 60)
        audit(made, mailing).complain()
        rows, addresses, frozen = ledger_of(made, mailing)
        ids = DeliverySigner(KEYRING)
        taken = {entry.message_id.strip("<>").partition("@")[0]: entry for entry in made.sink.entries()}
        messages = {hashlib.sha256(octets).hexdigest(): octets for octets in made.sink.messages}
    assert len(rows) == len(taken) == len(messages) == 105
    assert len(frozen) == 5
    for row in rows:
        entry = taken[ids.message_id(row.id)]
        received = messages[entry.sha256]
        date = _DATE.search(received)[1]
        assert began <= parsedate_to_datetime(date.decode()) <= dt.datetime.now(dt.UTC)
        address, rendition = envelope_address(addresses[row.id]), frozen[row.rendition_id]
        assert entry.recipient == address
        expected = as_it_must_be(row, address, rendition, date, eight_bit="8BITMIME" not in hide)
        assert received == expected
        assert entry.sha256 == hashlib.sha256(expected).hexdigest()
    # What the wire doubles is among what was compared, and so is what two encodings differ in.
    assert any(b"\r\n." in octets for octets in messages.values())
    assert any(max(octets) > 127 for octets in messages.values()) is ("8BITMIME" not in hide)
