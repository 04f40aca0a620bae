"""`tydzen mailing …` as an operator's script uses it: rehearsed, answered in JSON, given what is wrong."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import pytest

from service.cli import watching
from service.cli.output import Exit
from service.domain.content import Article, Issue, Text, TextStatus
from service.domain.delivery import DeliveryState
from service.domain.mailing import MailingState
from service.domain.weeks import Week
from service.store import engine_tables, issues, lost_issues, mailings, tables
from service.store.instants import stored
from tests.factories import MADE_AT, add_readers, save_issue, save_publication
from tests.flow.conftest import hold_time
from tests.installation import PROJECT
from tests.unit.delivery.parts import WEEK, Run, accepted, result


def mailing_of(tydzen, database, **more):
    """A mailing; what is logged of its planning stands in the output of none of the test's commands."""
    assert tydzen("mailing", "list")[0] == 0
    run = Run(database, **more)
    assert more.get("planned", True) is ("planned" in tydzen("mailing", "list")[2])
    return run


def said(tydzen, *words, wants=0):
    """The one object that a command prints."""
    code, out, err = tydzen(*words, "--json")
    assert code == wants, err
    return json.loads(out)


@pytest.mark.parametrize(
    ("verb", "more", "done"),
    [("pause", (), "paused"), ("cancel", (), "cancelled"), ("retry", (), "retried"), ("rate", (5,), "rate set")],
)
def test_a_rehearsal_answers_as_the_run_does_and_changes_nothing(tydzen, database, verb, more, done):
    run = mailing_of(tydzen, database, readers=3)
    first, *_ = run.gate(run.claim()).recipients
    run.record(result(first, DeliveryState.EXPIRED))
    before = run.counts()

    answer = said(tydzen, "mailing", verb, run.mailing, *more, "--dry-run")

    assert (answer["mailing"], answer["done"], answer["dry_run"]) == (run.mailing, done, True)
    assert "dry run" in tydzen("mailing", verb, run.mailing, *more, "--dry-run")[2]
    assert run.counts() == before
    status = said(tydzen, "mailing", "status", run.mailing)
    assert (status["state"], status["rate"]) == ("sending", 0)
    # And then in earnest, with the same numbers.
    again = said(tydzen, "mailing", verb, run.mailing, *more, *(("--yes",) if verb == "cancel" else ()))
    assert again == {**answer, "dry_run": False}


def test_a_rehearsed_resume_says_what_keeps_the_mailing_paused(tydzen, database):
    run = mailing_of(tydzen, database, readers=2)
    assert tydzen("mailing", "pause", run.mailing)[0] == 0
    with database.begin() as session:
        save_issue(session, WEEK, TextStatus.DRAFT)

    rehearsed = tydzen("mailing", "resume", run.mailing, "--dry-run")
    in_earnest = tydzen("mailing", "resume", run.mailing)

    assert rehearsed[0] == 3
    assert rehearsed == in_earnest


@pytest.mark.parametrize("verb", ["pause", "resume", "retry", "cancel"])
def test_a_rehearsal_fails_where_the_run_would(tydzen, database, verb):
    run = mailing_of(tydzen, database, readers=1)
    run.record(*map(accepted, run.gate(run.claim()).recipients))
    with database.begin() as session:
        session.execute(tables.mailings.update().values(state="scheduled" if verb == "retry" else "sent"))
    yes = ("--yes",) if verb == "cancel" else ()
    rehearsed, in_earnest = (
        tydzen("mailing", verb, run.mailing, "--dry-run"),
        tydzen("mailing", verb, run.mailing, *yes),
    )
    assert rehearsed[0] == 5
    assert rehearsed == in_earnest


@pytest.mark.parametrize(
    ("expired", "words"),
    [(0, "nobody is left who may be tried again"), (1, "1 letter is tried again"), (2, "2 letters are tried again")],
)
def test_a_retry_says_plainly_how_many_letters_are_tried_again(tydzen, database, expired, words):
    run = mailing_of(tydzen, database, readers=2)
    gated = run.gate(run.claim()).recipients
    run.record(*(result(one, DeliveryState.EXPIRED) for one in gated[:expired]), *map(accepted, gated[expired:]))
    rehearsed = f"mailing {run.mailing}: {words}; a dry run, nothing was changed"
    assert rehearsed in tydzen("mailing", "retry", run.mailing, "--dry-run")[2]
    assert f"mailing {run.mailing}: {words}\n" in tydzen("mailing", "retry", run.mailing)[2]


@pytest.mark.parametrize(
    ("changed", "blocker"),
    [
        ({"status": TextStatus.DRAFT}, "alliances: no text is approved"),
        ({"body": "TODO: check this figure."}, 'alliances.en, line 1 of the body: the text holds "TODO"'),
    ],
    ids=["all is draft", "something is to do"],
)
def test_an_issue_that_was_blocked_before_it_was_planned_is_not_mailed_by_a_retry(tydzen, database, changed, blocker):
    run = mailing_of(tydzen, database, readers=2, planned=False)
    run.control("cancel")
    corrected_by(database, **changed)

    rehearsed = tydzen("mailing", "retry", run.mailing, "--dry-run")
    in_earnest = tydzen("mailing", "retry", run.mailing)

    assert rehearsed[0] == 3
    assert rehearsed == in_earnest
    assert f"issue {WEEK} cannot be sent yet:" in rehearsed[2]
    assert blocker in rehearsed[2]
    assert run.state() == "cancelled"


def corrected_by(database, **changes):
    """The issue has one article, and this is its text now."""
    text = replace(Text("en", "A title", "A lead.", "A body.", TextStatus.APPROVED), **changes)
    article = Article("alliances", "security", "en", texts={"en": text})
    with database.begin() as session:
        issues.save(session, Issue(Week.parse(WEEK), (article,)), MADE_AT)


def test_a_retry_of_what_was_cancelled_says_who_gets_a_corrected_edition(tydzen, database):
    run = mailing_of(tydzen, database, readers=2)
    run.control("cancel")
    corrected_by(database, title="A corrected title")

    words = ("mailing", "retry", run.mailing)
    assert "whoever was not mailed yet would get the corrected issue (en)" in tydzen(*words, "--dry-run")[2]
    rehearsed = said(tydzen, *words, "--dry-run")
    assert (rehearsed["again"], rehearsed["corrected"], rehearsed["state"]) == (2, 1, "sending")
    assert run.state() == "cancelled"
    assert "whoever was not mailed yet gets the corrected issue (en)" in tydzen(*words)[2]
    # What goes on is as it is: there is nothing more to correct.
    assert said(tydzen, *words) == {**rehearsed, "again": 0, "corrected": 0, "dry_run": False}


def test_a_retry_foresees_that_an_edition_has_no_article_left(tydzen, database):
    run = mailing_of(tydzen, database, readers=2)
    run.control("cancel")
    corrected_by(database, status=TextStatus.DRAFT)

    rehearsed = tydzen("mailing", "retry", run.mailing, "--dry-run")

    assert rehearsed[0] == 3
    assert "is approved for readers of en any more" in rehearsed[2]
    assert rehearsed == tydzen("mailing", "retry", run.mailing)
    assert run.state() == "cancelled"


LATER = dt.datetime(2099, 1, 1, 8, tzinfo=dt.UTC)


@pytest.fixture
def scheduled(tydzen, database):
    """The mailing of an issue that is sent much later."""
    with database.begin() as session:
        save_publication(session)
        save_issue(session, WEEK)
    add_readers(database, 2, chains=("en",))
    return said(tydzen, "issue", "send", WEEK, "--yes", "--at", "2099-01-01T09:00+01:00")["mailing"]


@pytest.mark.parametrize("at", ["2019-01-01", "2019-06-03T09:00+03:00"])
def test_a_time_that_is_past_sends_nothing(tydzen, database, at):
    with database.begin() as session:
        save_publication(session)
        save_issue(session, WEEK)
    code, _, err = tydzen("issue", "send", WEEK, "--yes", "--at", at)
    meant = dt.datetime.fromisoformat(at).astimezone().isoformat(" ", "minutes")
    assert (code, err.strip()) == (2, f"--at {meant} is past; leave it out to send now")
    assert tydzen("mailing", "list", "--json")[1] == ""


def test_whoever_names_this_minute_means_now(tydzen, database, clock, monkeypatch):
    hold_time(monkeypatch, clock)
    with database.begin() as session:
        save_publication(session)
        save_issue(session, WEEK)
    at = (clock.now() - dt.timedelta(seconds=59)).isoformat()
    answer = said(tydzen, "issue", "send", WEEK, "--yes", "--at", at, "--dry-run")
    assert answer == {"mailing": None, "issue": WEEK, "at": None, "dry_run": True}


def test_the_time_of_a_scheduled_mailing_is_told_with_its_zone(tydzen, database):
    with database.begin() as session:
        save_publication(session)
        save_issue(session, WEEK)
    words = ("issue", "send", WEEK, "--yes", "--at", "2099-01-01T09:00+01:00")
    assert said(tydzen, *words, "--dry-run")["at"] == LATER.isoformat()
    told = LATER.astimezone().isoformat(" ", "minutes")
    assert f"would go to all readers at {told}" in tydzen(*words, "--dry-run")[2]

    assert f" and goes out at {told}; watch it with" in tydzen(*words)[2]

    assert f"scheduled for {told}" in tydzen("mailing", "list")[1]
    assert json.loads(tydzen("mailing", "list", "--json")[1])["at"] == LATER.isoformat()
    assert told in tydzen("mailing", "status", WEEK)[1]
    assert said(tydzen, "mailing", "status", WEEK)["at"] == LATER.isoformat()


def test_who_cancels_a_scheduled_mailing_is_asked_about_all_its_readers(tydzen, database, scheduled):
    code, _, err = tydzen("mailing", "cancel", scheduled)
    assert code == 2
    assert f"Cancel mailing {scheduled} of issue {WEEK}? All readers will not get it." in err
    with database.begin() as session:
        session.execute(tables.mailings.update().values(audience="file"))
    assert "All of its audience will not get it." in tydzen("mailing", "cancel", scheduled)[2]


def test_a_scheduled_mailing_that_was_cancelled_is_scheduled_again_by_a_retry(tydzen, scheduled):
    assert tydzen("mailing", "cancel", scheduled, "--yes")[0] == 0
    answer = said(tydzen, "mailing", "retry", scheduled, "--dry-run")
    assert (answer["again"], answer["state"], answer["at"]) == (0, "scheduled", LATER.isoformat())
    assert said(tydzen, "mailing", "status", scheduled)["state"] == "cancelled"

    code, _, err = tydzen("mailing", "retry", scheduled)

    assert code == 0
    assert f"issue {WEEK} goes out at {LATER.astimezone().isoformat(' ', 'minutes')}" in err
    assert said(tydzen, "mailing", "status", scheduled)["state"] == "scheduled"


def test_a_mailing_whose_time_went_by_while_it_was_cancelled_is_not_sent_to_all_unasked(tydzen, database, scheduled):
    assert tydzen("mailing", "cancel", scheduled, "--yes")[0] == 0
    with database.begin() as session:
        session.execute(tables.mailings.update().values(release_at=stored(MADE_AT)))
    words = ("mailing", "retry", scheduled)
    assert f"issue {WEEK} is sent to all readers; a dry run" in tydzen(*words, "--dry-run")[2]

    code, _, err = tydzen(*words)

    assert code == 2
    assert f"Send issue {WEEK} to all readers now? Nobody is there to ask: say --yes." in err
    assert said(tydzen, "mailing", "status", scheduled)["state"] == "cancelled"
    answer = said(tydzen, *words, "--yes")
    assert (answer["state"], answer["at"]) == ("planning", None)
    assert said(tydzen, "mailing", "status", scheduled)["state"] == "planning"


def test_a_decision_after_a_restored_backup_is_rehearsed_as_it_would_be_taken(tydzen, database):
    mailing_of(tydzen, database, readers=1)
    for words in (("reconcile", WEEK), ("reconcile", "--without", "nobody")):
        code, out, err = tydzen("mailing", *words, "--dry-run", "--json")
        assert (code, out) == (4, "")
        assert "see: tydzen mailing reconcile" in err


def test_what_a_restored_backup_leaves_open_is_told_with_times_as_everywhere(tydzen, database):
    at = dt.datetime(2026, 6, 3, 10, 0, tzinfo=dt.UTC)
    host = "0123456789abcdef"
    with database.begin() as session:
        lost_issues.add(session, WEEK, host=host, begun_at=stored(at))
        row = {"host": host, "mark": 1, "seen_at": stored(at), "awaited_since": stored(at)}
        session.execute(engine_tables.hosts.insert().values(**row))
    found = said(tydzen, "mailing", "reconcile")
    assert found["lost_issues"] == [{"issue": WEEK, "host": host, "begun_at": "2026-06-03T10:00:00+00:00"}]
    times = {"since": "2026-06-03T10:00:00+00:00", "seen_at": "2026-06-03T10:00:00+00:00"}
    assert found["awaited_hosts"] == [{"host": host, **times}]


def test_a_rehearsed_sending_answers_in_json_and_makes_no_mailing(tydzen, database):
    assert tydzen("publication", "import", PROJECT / "examples")[0] == 0
    assert tydzen("issue", "import", PROJECT / "examples" / "issues" / "2019-W22")[0] == 0
    add_readers(database, 2, chains=("en",))
    tydzen("issue", "approve", "2019-W22")
    answer = said(tydzen, "issue", "send", "2019-W22", "--dry-run")
    assert answer == {"mailing": None, "issue": "2019-W22", "at": None, "dry_run": True}
    assert "would go to all readers" in tydzen("issue", "send", "2019-W22", "--dry-run")[2]
    assert tydzen("mailing", "status", "2019-W22")[0] == 4
    answer = said(tydzen, "issue", "test", "2019-W22", "canary@example.org", "--chain", "be,ru", "--dry-run")
    assert (answer["issue"], answer["edition"], answer["dry_run"]) == ("2019-W22", "be,ru", True)


@pytest.mark.parametrize("rate", ["inf", "nan", "-1", "1e7"])
def test_a_rate_that_nobody_could_keep_is_refused_before_anybody_is_asked(tydzen, database, rate):
    run = mailing_of(tydzen, database, readers=0)
    for words in (("issue", "send", WEEK, "--rate", rate), ("demo", "--rate", rate)):
        code, out, err = tydzen(*words)
        assert (code, out) == (2, "")
        assert f"--rate {float(rate):.10g} is not from 0 to 1,000,000: mails per second" in " ".join(err.split())
    code, _, err = tydzen("mailing", "rate", run.mailing, "--", rate)
    assert code == 2
    assert "the slowest is 0.000001" in " ".join(err.split())


@pytest.mark.parametrize("number", ["0", "77", "9" * 10, "9" * 19, "9" * 5000])
def test_a_mailing_that_is_not_there_is_not_found_however_it_is_numbered(tydzen, number):
    code, out, err = tydzen("mailing", "status", number)
    assert (code, out) == (4, "")
    assert "there is no mailing" in err
    assert len(err) < 200


def test_what_is_neither_a_mailing_nor_a_week_is_told_both(tydzen):
    code, _, err = tydzen("mailing", "status", "abc")
    assert code == 2
    assert '"abc" is neither the number of a mailing nor a week like 2019-W22' in err


def test_the_time_at_which_a_letter_became_uncertain_is_told_as_a_person_reads_it(tydzen, database):
    run = mailing_of(tydzen, database, readers=1)
    uncertain = [result(one, DeliveryState.UNCERTAIN, phase="dot") for one in run.gate(run.claim()).recipients]
    run.record(*uncertain)
    listed = said(tydzen, "mailing", "uncertain", run.mailing)
    at = dt.datetime.fromisoformat(listed["at"]).astimezone()
    shown = tydzen("mailing", "uncertain", run.mailing)[1]
    assert f" {at:%Y-%m-%d %H:%M:%S} " in shown
    assert listed["at"] not in shown


@pytest.mark.parametrize(
    ("state", "wants"), [(MailingState.CANCELLED, 5), (MailingState.PAUSED, 5), (MailingState.SENT, 0)]
)
def test_who_watches_what_they_send_is_told_by_the_exit_code_whether_it_was_sent(
    tydzen, database, monkeypatch, state, wants
):
    with database.begin() as session:
        save_publication(session)
        save_issue(session, WEEK)
    add_readers(database, 3, chains=("en",))

    def meanwhile(_seconds):
        with database.begin() as session:
            (one,) = mailings.everyone(session)
            mailings.move(session, one.id, state, now=MADE_AT)

    monkeypatch.setattr(watching.time, "sleep", meanwhile)
    code, out, err = tydzen("issue", "send", WEEK, "--yes", "--watch")

    assert code == wants, err
    assert state in out
    why = f"issue {WEEK} was not sent to its end: mailing 1 is {state}; 0 readers were mailed"
    assert (why in err) is (wants == 5)


def test_a_week_with_blanks_around_it_is_that_week(tydzen, database):
    run = mailing_of(tydzen, database, readers=1)
    (one,) = run.gate(run.claim()).recipients
    run.record(accepted(one))
    answer = said(tydzen, "explain", run.addresses[0], f" {WEEK}\n")
    assert answer == said(tydzen, "explain", run.addresses[0], WEEK)
    assert (answer["issue"], answer["mailing"], answer["state"]) == (WEEK, run.mailing, "accepted")
    code, _, err = tydzen("issue", "send", f" {WEEK}", "--yes")
    assert code == Exit.CONFLICT
    assert f"issue {WEEK} is mailing {run.mailing} already" in err
