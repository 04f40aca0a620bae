import sqlalchemy as sa

from service.domain.chains import Chain
from service.domain.subscriber import SubscriberStatus
from service.store import provider_keys, subscribers
from service.store.sealing import normalised
from service.store.tables import subscribers as table
from tests.factories import JOINED, add_readers


def stored(database):
    with database.read() as session:
        return dict(session.execute(sa.select(table.c.id, table.c.provider)).all())


def test_a_reader_is_stored_with_the_known_provider_or_a_hash_that_shows_no_domain(database):
    with database.begin() as session:
        found = {
            address: subscribers.add(
                session, address, Chain(("en",)), status=SubscriberStatus.ACTIVE, consent=None, week=JOINED
            ).id
            for address in ("One@GoogleMail.com", "two@example.test", "three@EXAMPLE.test", "four@пошта.укр")
        }
    kept = stored(database)
    assert kept[found["One@GoogleMail.com"]] == "gmail"
    hashed = kept[found["two@example.test"]]
    assert hashed == kept[found["three@EXAMPLE.test"]]
    assert hashed.startswith("d-")
    assert len(hashed) == 18
    assert "example" not in hashed
    # One domain, whichever way it is written.
    in_dns = normalised("four@пошта.укр").rpartition("@")[2]
    assert in_dns.startswith("xn--")
    assert kept[found["four@пошта.укр"]] == provider_keys.provider_key(database.sealer, in_dns)


def test_readers_from_before_are_filled_in_pages_and_only_they(database, monkeypatch):
    monkeypatch.setattr(provider_keys, "_PAGE", provider_keys._PAGE.limit(3))
    add_readers(database, 7)
    add_readers(database, 2, domain="mail.ru", prefix="known")
    before = stored(database)
    with database.begin() as session:
        session.execute(table.update().where(table.c.provider != "mail.ru").values(provider=None))
        session.execute(table.update().where(table.c.provider == "mail.ru").values(provider="kept"))

    assert provider_keys.fill(database) == 7
    after = stored(database)
    assert after == {row: "kept" if provider == "mail.ru" else provider for row, provider in before.items()}
    assert provider_keys.fill(database) == 0


def test_a_domain_that_begins_as_a_hash_does_is_hashed_as_any_other(database):
    domain = "d-velop-of-a-name-longer-than-any-column-is-wide.example.test"
    add_readers(database, 1, domain=domain)
    (kept,) = stored(database).values()
    assert provider_keys.is_hashed(kept)
    assert kept == provider_keys.provider_key(database.sealer, domain)
    assert provider_keys.provider_key(database.sealer, kept) == kept
    # As it was stored before: the next upgrade hashes it.
    with database.begin() as session:
        session.execute(table.update().values(provider="d-velop.example.test"))
    assert provider_keys.fill(database) == 1
    assert set(stored(database).values()) == {kept}
