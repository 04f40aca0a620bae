"""What a worker process measures of its own work, as a scrape tells it."""

from __future__ import annotations

import datetime as dt

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.delivery import send
from service.delivery.exposition import exposition
from service.delivery.meter import Meter
from service.domain.replies import Phase, ReplyClass
from service.mail.letter import Outcome
from service.store import measures
from tests.factories import add_readers
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.delivery.parts import NOW, Run
from tests.unit.delivery.worker import Worker


def scraped(database):
    with database.read() as session:
        families = text_string_to_metric_families(exposition(session).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def outcome(reply_class, **more):
    return Outcome(1, 1, reply_class, 0, None, "", Phase.MAIL, "relay:25", past_dot=False, **more)


@pytest.mark.parametrize("hide", [(), ("CHUNKING",), ("PIPELINING",), ("CHUNKING", "PIPELINING")])
def test_how_long_the_relay_takes_to_answer_the_dot_is_measured(sqlite_database, tmp_path, hide):
    run = Run(sqlite_database, readers=8)
    with SmtpSink(tmp_path / "ledger", [Rule("DOT", delay=0.06)], hide=frozenset(hide)) as sink:
        Worker(run, tmp_path, sink).send()

    found = scraped(sqlite_database)

    assert len(sink.entries()) == 8
    assert 1 <= found["tydzen_dot_seconds_count", ()] <= 8
    assert found["tydzen_dot_seconds_bucket", (("le", "0.05"),)] == 0
    assert found["tydzen_dot_seconds_sum", ()] >= 0.06 * found["tydzen_dot_seconds_count", ()]


def test_replies_are_counted_by_provider_also_in_a_batch_of_several(sqlite_database, tmp_path, monkeypatch):
    # Longer than a busy machine needs between gate and letter.
    monkeypatch.setattr(send, "GATE_SECONDS", 60.0)
    add_readers(sqlite_database, 1, chains=("en",), domain="gmail.com")
    add_readers(sqlite_database, 1, chains=("en",), domain="mail.ru")
    run = Run(sqlite_database, readers=1)
    assert len(run.batch_ids()) == 1
    with SmtpSink(tmp_path / "ledger", [Rule("RCPT", "550 5.1.1 unknown", recipient="gmail.com")]) as sink:
        Worker(run, tmp_path, sink).send()

    found = {
        labels: value for (name, labels), value in scraped(sqlite_database).items() if name == "tydzen_replies_total"
    }

    told = {(dict(labels)["provider"], dict(labels)["reply"]): value for labels, value in found.items()}
    assert told == {("gmail", "hard"): 1, ("mail.ru", "accepted"): 1, ("other", "accepted"): 1}
    assert "example.test" not in str(found)


@pytest.mark.parametrize("said", [ReplyClass.ACCEPTED, ReplyClass.TRANSIENT, ReplyClass.HARD, ReplyClass.UNCERTAIN])
def test_a_letter_that_was_given_back_is_no_progress(sqlite_database, said):
    run, meter = Run(sqlite_database, readers=1), Meter()

    later = NOW + dt.timedelta(hours=1)

    def progress():
        with sqlite_database.begin() as session:
            meter.store(session, later, at_once=True)
            return measures.progress(session, run.mailing)

    meter.outcomes(run.mailing, [outcome(ReplyClass.NOT_SENT)] * 3)
    assert progress() == NOW  # when it was planned
    meter.outcomes(run.mailing, [outcome(ReplyClass.NOT_SENT), outcome(said)])
    assert progress() == later
