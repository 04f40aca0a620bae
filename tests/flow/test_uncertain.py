"""Letters of which nobody knows whether they arrived: listed with evidence, and resolved in each way, through real parts."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections import Counter

import pytest

from service.domain.delivery import DeliveryState
from service.domain.subscriber import SubscriberStatus
from service.store import subscribers
from tests.flow.conftest import sending_installation
from tests.smtp_sink import Rule
from tests.unit.delivery.parts import Run, accepted, result

pytestmark = pytest.mark.slow


def send(made, week, prefix, count=6):
    addresses = made.fill(count, week=week, prefix=prefix)
    return addresses, made.send(week, readers=addresses)


def copies(made, prefix):
    """How often the sink has taken the letter to each reader of that name."""
    return Counter(entry.recipient for entry in made.sink.entries() if entry.recipient.startswith(prefix))


def postfix_log(lines):
    """The log of a Postfix that took (or only began to take) letters of these Message-IDs."""
    now = dt.datetime.now(dt.UTC).astimezone()
    text = []
    for number, (message_id, *rest) in enumerate(lines):
        queue = f"4{number:X}F2A81C0B"
        text.append(f"smtpd[9]: {queue}: client=worker[192.0.2.7]")
        text.append(f"cleanup[9]: {queue}: message-id={message_id}")
        text += [f"{program}[9]: {queue}: {words}" for program, words in rest]
    return "".join(f"{now:%b} {now.day:2} {now:%H:%M:%S} mail postfix/{line}\n" for line in text)


ACTIVE = ("qmgr", "from=<b-00@weekly.example.org>, size=44713, nrcpt=1 (queue active)")


def bounced(to):
    words = (
        f"to=<{to}>, relay=mx[192.0.2.1]:25, delay=1, delays=0/0/1/0, dsn=5.1.1, status=bounced (host mx[192.0.2.1] "
        f"said: 550 5.1.1 <{to}>: no such user (in reply to RCPT TO command))"
    )
    return "smtp", words


def test_a_relay_that_falls_silent_after_the_dot_leaves_letters_that_its_log_decides(running, week, rules, tmp_path):
    rules(running, Rule("DOT", recipient="silent-", then="drop", take=True, times=3, skip=1))
    # One is let by; each of three drops may take a window of four letters along, and three always have a dot of their own.
    addresses, mailing = send(running, week, "silent-", 1 + 3 * 4)
    running.wait_until_sent(mailing, 120)
    count = running.status(mailing).counts.uncertain
    assert count >= 3

    listed = running.json_lines("mailing", "uncertain", mailing)
    assert len(listed) == count
    relay = f"127.0.0.1:{running.sink.port}"
    assert {(line["relay"], line["phase"], line["attempt"]) for line in listed} == {(relay, "dot", 1)}
    assert all(line["read"] and line["host"] and line["batch"] and line["at"] for line in listed)
    assert not [line for line in listed if "@example.test" in str(line)]
    ours = {entry.message_id: entry.recipient for entry in running.sink.entries() if entry.recipient in addresses}
    known = [line["message_id"] for line in listed if line["message_id"] in ours]
    assert len(known) >= 3

    # Of the first the log says that it was queued, of the second that it came back, of the third that it began.
    back = ours[known[1]]
    log = tmp_path / "mail.log.1.gz"
    log.write_bytes(
        gzip.compress(postfix_log([(known[0], ACTIVE), (known[1], ACTIVE, bounced(back)), (known[2],)]).encode())
    )
    said = running.tydzen("mailing", "resolve", mailing, "--from-log", log, wants=2).stderr
    assert "say --yes" in said
    assert running.status(mailing).counts.uncertain == count
    said = running.tydzen("mailing", "resolve", mailing, "--from-log", log, "--dry-run").stderr
    assert "accepted 2 (of which 1 bounced later)" in said
    assert "the log covers the time from" in said
    assert running.status(mailing).counts.uncertain == count
    done = running.json("mailing", "resolve", mailing, "--from-log", log, "--yes")
    assert (done["accepted"], done["bounced"], done["begun"], done["left"]) == (2, 1, 1, count - 2)
    assert done["log"]["lines"] == 9

    with running.database.read() as session:
        assert subscribers.find(session, back).status is SubscriberStatus.BOUNCED
    departures = (running.folder / "data" / "departures.log").read_text()
    assert " bounced " in departures
    told = running.json("explain", back, week)
    assert told["state"] == "accepted"
    assert told["failures"][-1]["reply"] == "the relay's log: queued, then bounced"
    # Nothing of an address went into the database, or onto the screen.
    assert "@" not in str(told["failures"])

    assert running.json("mailing", "resolve", mailing, "--accepted", "--all", "--yes")["left"] == 0
    assert max(copies(running, "silent-").values()) == 1


def test_a_worker_killed_between_the_dot_and_its_reply_leaves_a_letter_that_is_sent_once_more(
    request, tmp_path_factory, week
):
    with sending_installation(request, "sqlite", tmp_path_factory.mktemp("killed"), lease_seconds=5) as made:
        made.sink.set_rules(Rule("DOT", recipient="killed-", then="hang", take=True))
        addresses, mailing = send(made, week, "killed-", 2)
        made.wait_for(lambda: len(copies(made, "killed-")) == 2 or made.taken() >= 1, 120)
        for worker in made.workers:
            worker.kill()
        made.sink.set_rules()
        made.sink.drop_all()
        made.sweep()

        listed = made.json_lines("mailing", "uncertain", mailing)
        assert 1 <= len(listed) <= 2
        for line in listed:
            assert line["relay"] == f"127.0.0.1:{made.sink.port}"
            assert line["reason"] == "worker died"
            assert "died between the final dot and its reply" in line["read"]
        shown = made.tydzen("mailing", "uncertain", mailing).stdout
        assert listed[0]["message_id"] in shown
        assert listed[0]["subscriber"] in shown
        before = copies(made, "killed-")

        # A resend may mail twice, and says so; off a terminal it wants --yes.
        words = ("mailing", "resolve", mailing, "--resend", "--delivery", listed[0]["subscriber"])
        refused = made.tydzen(*words, wants=2)
        assert "gets it twice" in refused.stderr
        assert made.json(*words, "--yes")["letters"] == 1
        for line in listed[1:]:
            made.tydzen("mailing", "resolve", mailing, "--resend", "--delivery", line["message_id"], "--yes")
        assert not made.tydzen("mailing", "resolve", mailing, "--resend", "--all", "--yes").stdout

        made.start_worker(concurrency=3)
        made.wait_until_sent(mailing, 120)
        after = copies(made, "killed-")
        twice = {entry.recipient for entry in made.sink.entries() if entry.message_id in
                 {line["message_id"] for line in listed}}  # fmt: skip
        assert {reader: after[reader] - before[reader] for reader in twice} == dict.fromkeys(twice, 1)
        assert all(times <= 2 for times in after.values())
        assert {state for state, _ in made.states(mailing).values()} == {DeliveryState.ACCEPTED}
        assert set(after) == set(addresses)


def test_an_installation_may_have_what_is_uncertain_sent_again_once(request, tmp_path_factory, week):
    # Each letter has its own dot: of several by BDAT, one behind that of policy-1 would be lost with it a second time.
    settings = {"uncertain": "resend", "hide": frozenset({"CHUNKING"})}
    with sending_installation(request, "sqlite", tmp_path_factory.mktemp("policy"), **settings) as made:
        # The relay drops the connection at the first dot of one reader, at every dot of another.
        made.sink.set_rules(
            Rule("DOT", recipient="policy-0@", then="drop", times=1), Rule("DOT", recipient="policy-1@", then="drop")
        )
        _, mailing = send(made, week, "policy-", 4)
        made.wait_until_sent(mailing, 120)
        made.sweep()
        made.wait_for(lambda: made.taken() >= 3, 120, why="the sweep sent again")
        made.wait_until_sent(mailing, 120)
        made.sweep()

        listed = made.json_lines("mailing", "uncertain", mailing)
        assert [(line["attempt"], line["times"]) for line in listed] == [(2, 2)]
        assert max(copies(made, "policy-").values()) == 1
        assert made.status(mailing).counts.accepted == 3


def test_wrong_words_are_refused_and_say_what_is_wrong(tydzen, database):
    assert tydzen("mailing", "list")[0] == 0  # the log goes where this test can see it
    run = Run(database, readers=1)
    run.record(*map(accepted, run.gate(run.claim()).recipients))
    for words, wanted, said in (
        (("--all",), 2, "one of --resend, --accepted, --refused and --from-log"),
        (("--resend", "--accepted", "--all"), 2, "one of --resend"),
        (("--resend",), 2, "--delivery MESSAGE-ID"),
        (("--resend", "--all", "--delivery", "s_00"), 2, "--delivery MESSAGE-ID"),
        (("--from-log", "no-such-file", "--yes"), 2, "no-such-file: the log cannot be read (No such file"),
        (("--accepted", "--delivery", "<" + "0" * 32 + "@weekly.example.org>"), 4, "no uncertain delivery"),
        (("--accepted", "--delivery", "canary@example.test"), 2, "its Message-ID"),
    ):
        code, out, err = tydzen("mailing", "resolve", run.mailing, *words)
        assert (code, out) == (wanted, "")
        assert said in err
        assert "canary" not in err

    assert tydzen("mailing", "uncertain", run.mailing, "--json")[:2] == (0, "")
    assert "no uncertain deliveries" in tydzen("mailing", "uncertain", run.mailing)[2]
    assert '"letters": 0' in tydzen("mailing", "resolve", run.mailing, "--accepted", "--all", "--json")[1]


def test_states_are_counted_by_provider_and_a_retry_may_name_one(tydzen, database):
    assert tydzen("mailing", "list")[0] == 0  # the log goes where this test can see it
    run = Run(database, readers=2)
    run.change_reader(0, provider="gmail")
    run.record(*(result(one, DeliveryState.EXPIRED) for one in run.gate(run.claim()).recipients))

    counts = json.loads(tydzen("mailing", "providers", run.mailing, "--json")[1])["providers"]
    assert {name: found["expired"] for name, found in counts.items()} == {"gmail": 1, "other": 1}
    assert "gmail" in tydzen("mailing", "providers", run.mailing)[1]
    words = ("mailing", "retry", run.mailing, "--reason", "expired", "--provider")
    assert ": 1 letter is tried again; a dry run" in tydzen(*words, "gmail", "--dry-run")[2]
    code, _, err = tydzen(*words, "nobody")
    assert code == 2
    assert "gmail" in err
