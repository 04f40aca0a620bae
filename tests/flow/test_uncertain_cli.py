"""`tydzen mailing resolve --from-log`: what it says of logs that do not tell all."""

import datetime as dt
import gzip
import io
import json
import lzma

import pytest

from service.domain.delivery import DeliveryState
from service.store.instants import stored
from service.store.tables import mailings, senders
from tests.unit.delivery.parts import Run, result

TEN = dt.datetime(2026, 6, 3, 10, 0, tzinfo=dt.UTC)


def at(minutes):
    return TEN + dt.timedelta(minutes=minutes)


def lose(run, reason, when):
    """Two letters that were handed over at ten became uncertain then, for that reason."""
    gated = run.gate(run.claim()).recipients
    run.now = when
    run.record(*(result(one, DeliveryState.UNCERTAIN, reason=reason) for one in gated))
    with run.database.begin() as session:
        session.execute(mailings.update().values(created_at=stored(at(-60))))
        session.execute(senders.update().values(started_at=stored(at(-5))))


@pytest.fixture
def run(database):
    return Run(database, readers=2)


@pytest.fixture
def log(tmp_path):
    def write(name, *minutes):
        path = tmp_path / name
        lines = [f"{at(minute).isoformat()} mail postfix/qmgr[1]: 4AAAAAAAAA: removed" for minute in minutes]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def outside(tydzen, run, *paths):
    words = [word for path in paths for word in ("--from-log", path)]
    code, out, err = tydzen("mailing", "resolve", run.mailing, *words, "--dry-run", "--json")
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])  # the log of the planning may stand before it
    return found["outside"], found["log"]


def test_a_log_covers_a_letter_of_a_lost_host_only_from_when_it_may_have_been_handed_over(tydzen, run, log, database):
    lose(run, "host away", at(65))
    assert outside(tydzen, run, log("late.log", 30, 120))[0] == 2
    assert outside(tydzen, run, log("short.log", -10, 60))[0] == 2
    assert outside(tydzen, run, log("whole.log", -10, 120))[0] == 0
    # Nothing of a mailing is older than the mailing, however long its worker has run.
    with database.begin() as session:
        session.execute(mailings.update().values(created_at=stored(at(35))))
    assert outside(tydzen, run, log("late.log", 30, 120))[0] == 0


def test_a_log_covers_any_other_letter_where_it_covers_the_moment_in_which_that_became_uncertain(tydzen, run, log):
    lose(run, "uncertain", at(65))
    assert outside(tydzen, run, log("late.log", 30, 120))[0] == 0


def test_a_gap_between_two_files_is_told_and_is_not_covered(tydzen, run, log):
    lose(run, "uncertain", at(65))
    files = log("mail.log.3", -60, -30), log("mail.log.0", 90, 120)
    count, told = outside(tydzen, run, *files)
    assert count == 2
    assert (told["from"], told["to"]) == (at(-60).isoformat(), at(120).isoformat())
    assert [(one["from"], one["to"]) for one in told["spans"]] == [
        (at(-60).isoformat(), at(-30).isoformat()), (at(90).isoformat(), at(120).isoformat()),
    ]  # fmt: skip
    err = tydzen("mailing", "resolve", run.mailing, "--from-log", files[0], "--from-log", files[1], "--dry-run")[2]
    assert " ".join(err.split()).count(" to 2026-06-03 ") == 2


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_stdin_is_read_plain_or_packed(tydzen, run, log, monkeypatch, pack):
    lose(run, "uncertain", at(65))
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(pack(log("mail.log", 30, 120).read_bytes()))))
    monkeypatch.setattr("sys.stdin", stdin)
    count, told = outside(tydzen, run, "-")
    assert (count, told["lines"], told["unreadable"]) == (0, 2, 0)


def test_a_packed_stdin_that_breaks_off_is_named(tydzen, run, log, monkeypatch):
    packed = gzip.compress(log("mail.log", *range(500)).read_bytes())[:-12]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(packed))))
    code, _, err = tydzen("mailing", "resolve", run.mailing, "--from-log", "-", "--dry-run")
    assert code == 2
    assert "stdin: the log cannot be read" in err


@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
def test_a_file_in_which_no_line_has_a_time_is_no_log_and_is_named(tydzen, run, log, tmp_path, monkeypatch, stdin):
    packed = lzma.compress(log("mail.log", *range(500)).read_bytes())
    path = tmp_path / "mail.log.2.xz"
    path.write_bytes(packed)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(packed))))
    words = ("mailing", "resolve", run.mailing, "--from-log", tmp_path / "mail.log", "--from-log")
    code, _, err = tydzen(*words, "-" if stdin else path, "--dry-run")
    assert code == 2
    said = " ".join(err.split())
    assert ("stdin" if stdin else path.name) in said
    assert "no Postfix log; unpack it first" in said


def test_an_empty_file_is_a_log_of_nothing(tydzen, run, tmp_path):
    (tmp_path / "empty.log").touch()
    assert outside(tydzen, run, tmp_path / "empty.log")[1]["spans"] == []
