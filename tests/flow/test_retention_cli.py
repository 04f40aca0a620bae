"""`tydzen retention run`, as an operator or a timer runs it."""

import datetime as dt
import json

from service.delivery import progress
from service.store.tables import subscribers
from tests.flow.conftest import hold_time
from tests.unit.delivery.parts import Run, accepted


def ended(database, readers):
    """A mailing that has ended, of that many readers."""
    run = Run(database, readers=readers)
    claim = run.claim()
    run.record(*(accepted(one) for one in run.gate(claim).recipients))
    run.give_back(claim)
    with database.begin() as session:
        progress.finish(session, run.mailing, now=run.now)
    return run


def test_it_says_what_it_would_forget_forgets_it_and_has_nothing_left_to_do(database, tydzen, clock, monkeypatch):
    assert tydzen("retention", "run")[:2] == (0, "")
    run = ended(database, readers=7)
    with database.begin() as session:
        session.execute(subscribers.update().values(paused_until=run.now.date().isoformat()))
    clock.set(run.now + dt.timedelta(days=40))
    hold_time(monkeypatch, clock)

    code, out, _ = tydzen("retention", "run", "--dry-run", "--json")
    assert (code, json.loads(out)) == (
        0,
        {
            "mailings": 1,
            "links": 7,
            "replies": 0,
            "evidence": 0,
            "sign_ups": 0,
            "requests": 0,
            "pauses": 7,
            "notices": 0,
            "senders": 0,
            "dry_run": True,
        },
    )
    assert "7 pauses" in tydzen("retention", "run", "--dry-run")[2]
    assert "readers of 7 letters in 1 mailings" in tydzen("retention", "run")[2]
    assert "nothing is due" in tydzen("retention", "run")[2]
