"""What is told to whoever watches the installation."""

from __future__ import annotations

import datetime as dt

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from service import bootstrap, config
from service.domain.mailing import MailingState
from service.domain.tally import Tally
from service.store import measures, tables
from service.store.instants import database_now
from service.web.app import create_app


@pytest.fixture
def watched(parts):
    """The site with its measures open to a token."""
    settings = config.load(
        data_dir=parts.settings.data_dir, base_url="http://localhost:8000", metrics_token="watchword"
    )
    made = bootstrap.Services(settings, parts.clock)
    with TestClient(create_app(made), "http://localhost:8000") as client:
        yield client
    made.database.close()


def scrape(client, token="watchword"):
    return client.get("/metrics", headers={"Authorization": f"Bearer {token}"})


def samples_of(answer):
    families = text_string_to_metric_families(answer.text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def open_batch(parts, published, *, since):
    published(MailingState.SENDING)
    with parts.database.begin() as session:
        mailing = session.scalar(tables.mailings.select().with_only_columns(tables.mailings.c.id))
        session.execute(
            tables.batches.insert().values(id=1, mailing_id=mailing, chain="en", open=True, pending=3, uncertain=2)
        )
        clock = database_now(postgresql=False)
        session.execute(tables.mailings.update().values(started_at=clock - int(since * 1000)))
    return mailing


@pytest.mark.parametrize("token", ["", "watchwor", "watchword2", "Watchword", "пароль"])
def test_measures_are_closed_to_who_does_not_bring_the_token(watched, token):
    header = f"Bearer {token}".encode()
    assert watched.get("/metrics", headers={"Authorization": header}).status_code == 404
    assert watched.get("/metrics").status_code == 404


def test_measures_are_closed_where_no_token_is_set(site):
    assert scrape(site, "").status_code == 404
    assert scrape(site, "None").status_code == 404


def test_a_scrape_holds_sums_histograms_and_signs_in_the_format_of_prometheus(watched, parts, published):
    mailing = open_batch(parts, published, since=10)
    tally = Tally()
    tally.count("replies", 5, reply="accepted", provider="gmail", relay="relay.example.org:587")
    for seconds in (0.004, 0.004, 0.2, 700):
        tally.observe("gate_seconds", seconds)
    with parts.database.begin() as session:
        measures.add(session, tally.sums())
        measures.add(session, tally.sums())

    answer = scrape(watched)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples_of(answer)
    labels = (("provider", "gmail"), ("relay", "relay.example.org:587"), ("reply", "accepted"))
    assert found["tydzen_replies_total", labels] == 10
    assert found["tydzen_gate_seconds_bucket", (("le", "0.005"),)] == 4
    assert found["tydzen_gate_seconds_bucket", (("le", "0.25"),)] == 6
    assert found["tydzen_gate_seconds_bucket", (("le", "+Inf"),)] == 8
    assert found["tydzen_gate_seconds_count", ()] == 8
    assert found["tydzen_uncertain", ()] == 2
    assert found["tydzen_leases_lost_total", ()] == 0
    assert found["tydzen_deliveries", (("mailing", str(mailing)), ("state", "pending"))] == 3
    assert 9 < found["tydzen_due_seconds", ()] < 60


def test_it_is_not_ready_while_what_is_due_makes_no_progress(site, parts, published):
    mailing = open_batch(parts, published, since=4000)
    answer = site.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["due_seconds"] >= 4000
    assert "letters that are due make no progress" in answer.json()["stalled"]
    with parts.database.begin() as session:
        measures.note_progress(session, mailing, dt.datetime.now(dt.UTC))
    assert site.get("/readyz").status_code == 200
    assert site.get("/healthz").status_code == 200
