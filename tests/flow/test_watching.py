"""What an operator and a monitor see of a running installation."""

from __future__ import annotations

import itertools

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow


def measures(made):
    families = text_string_to_metric_families(made.tydzen("metrics").stdout)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_measures_count_what_workers_did_and_name_no_reader(running, week):
    addresses = running.fill(120, week=week, prefix="watched-")
    mailing = running.send(week, readers=addresses)
    running.wait_until_sent(mailing)

    found = measures(running)

    accepted = {name: value for name, value in found.items() if ("reply", "accepted") in name[1]}
    assert sum(accepted.values()) == 120
    assert found["tydzen_gated_total", ()] == 120
    assert found["tydzen_gate_seconds_count", ()] >= 1
    assert found["tydzen_due_seconds", ()] == 0
    text = running.tydzen("metrics").stdout
    assert "watched-" not in text
    assert "example.test" not in text


def test_doctor_looks_at_the_engine_while_it_runs(running):
    def found():
        return {one["what"]: one for one in running.json("doctor", wants=None)["checks"]}

    # A worker is seen once its first sweep is over.
    running.wait_for(lambda: found()["workers"]["ok"], 30)
    told = found()
    engine = {"workers", "progress", "queues", "leases", "journals", "departures", "counts", "uncertain", "left alone"}
    assert engine <= set(told)
    wrong = [one for one in told.values() if not one["ok"] and one["what"] != "data directory"]
    assert wrong == []


def test_a_script_that_watches_gets_a_line_for_each_change_and_the_end(running, week):
    addresses = running.fill(60, week=week, prefix="looked-")
    mailing = running.send(week, readers=addresses, rate=4)
    lines = running.json_lines("mailing", "status", mailing, "--watch")
    assert lines[-1]["state"] == "sent"
    assert lines[-1]["accepted"] == 60
    assert len(lines) > 1
    assert [line["accepted"] for line in lines] == sorted(line["accepted"] for line in lines)
    assert all(line != following for line, following in itertools.pairwise(lines))
