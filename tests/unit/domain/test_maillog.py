"""A Postfix log says of a letter whether the relay took it, through our Message-ID, whatever else is in it."""

import datetime as dt
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain import maillog
from service.domain.maillog import Fate, MailLog
from service.domain.replies import ReplyClass

NOW = dt.datetime(2019, 6, 10, 12, 0, tzinfo=dt.UTC)
MONDAY = dt.datetime(2019, 6, 3, 7, 12, 1, tzinfo=dt.UTC)
OURS = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
SHORT, LONG = "3F2A81C0B2", "4ZxTJ52vNrz9yBk"


def syslog(at, program, text):
    return f"{at:%b} {at.day:2} {at:%H:%M:%S} mail postfix/{program}[4711]: {text}".encode()


def iso(at, program, text):
    return f"{at.isoformat()} mail postfix/{program}[4711]: {text}".encode()


def rfc5424(at, program, text):
    stamp = at.isoformat().replace("+00:00", "Z")
    return f'<22>1 {stamp} mail postfix/{program} 4711 - [origin x="a]b"] '.encode() + b"\xef\xbb\xbf" + text.encode()


FORMS = [syslog, iso, rfc5424]


def taken(queue=SHORT, message=OURS, at=MONDAY, form=syslog, *, to="reader@example.test", **last):
    """A whole life of a letter in the queue."""
    second = dt.timedelta(seconds=1)
    lines = [
        form(at, "smtpd", f"{queue}: client=worker[192.0.2.7]"),
        form(at, "cleanup", f"{queue}: message-id=<{message}@weekly.example.org>"),
        form(at, "qmgr", f"{queue}: from=<b-00@weekly.example.org>, size=44713, nrcpt=1 (queue active)"),
    ]
    if last.get("status", "sent"):
        lines.append(form(at + second, last.get("program", "smtp"), f"{queue}: " + delivery(to, **last)))
        lines.append(form(at + second, "qmgr", f"{queue}: removed"))
    return lines


def delivery(
    to="reader@example.test", *, status="sent", dsn="2.0.0", said="250 2.0.0 Ok: queued as 9", relay="mx[192.0.2.1]:25",
    program=None,
):  # fmt: skip
    return f"to=<{to}>, relay={relay}, delay=0.44, delays=0.1/0.02/0.2/0.1, dsn={dsn}, status={status} ({said})"


def read(lines, *wanted, zone=dt.UTC, times=1):
    log = MailLog(wanted or [OURS], now=NOW, zone=zone)
    for number in range(times):
        log.read(lines, again=number > 0)
    return log


def finding(lines, wanted=OURS):
    return read(lines).finding(wanted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("queue", [SHORT, LONG])
@pytest.mark.parametrize("program", ["smtp", "lmtp", "local", "pipe", "virtual", "relay/smtp"])
def test_a_letter_that_was_queued_and_sent_was_taken(form, queue, program):
    found = finding(taken(queue, form=form, program=program))
    assert (found.fate, found.status, found.enhanced) == (Fate.TAKEN, "sent", "2.0.0")
    assert found.at == MONDAY


def test_a_letter_that_is_only_queued_was_taken():
    assert finding(taken(status=None)).fate is Fate.TAKEN
    held_up = delivery(status="deferred", dsn="4.4.1", said="connect to mx[192.0.2.1]:25: Connection timed out")
    found = finding([*taken(status=None), syslog(MONDAY, "smtp", f"{SHORT}: {held_up}")])
    assert (found.fate, found.status, found.reply_class) == (Fate.TAKEN, "deferred", ReplyClass.TRANSIENT)


def test_a_letter_that_only_began_to_come_in_is_not_known_to_be_taken():
    begun = taken(status=None)[:2]
    lost = syslog(MONDAY, "smtpd", "lost connection after DATA (40960 bytes) from worker[192.0.2.7]")
    assert finding([*begun, lost]).fate is Fate.BEGUN


def test_what_is_not_in_the_log_is_unknown_and_the_log_says_what_it_covers():
    log = read([*taken(message=OTHER), syslog(MONDAY + dt.timedelta(days=2), "anvil", "statistics: max 1")])
    assert log.finding(OURS).fate is Fate.UNKNOWN
    covered = log.coverage()
    assert covered.spans == [(MONDAY, MONDAY + dt.timedelta(days=2))]
    assert (covered.lines, covered.unreadable) == (6, 0)


def test_a_refused_recipient_that_never_got_a_queue_id_proves_nothing():
    noqueue = syslog(MONDAY, "smtpd", f"NOQUEUE: reject: RCPT from w[192.0.2.7]: 450 4.7.1 <a@b>: {OURS}; from=<x@y>")
    assert finding([noqueue]).fate is Fate.UNKNOWN


@pytest.mark.parametrize(
    ("line", "code", "enhanced", "of"),
    [
        ("milter-reject: END-OF-MESSAGE from worker[192.0.2.7]: 5.7.1 Spam; from=<a@b> to=<c@d>", 550, "5.7.1",
         ReplyClass.POLICY),
        ("milter-reject: END-OF-MESSAGE from w[2001:db8::7]: 4.7.1 Later; from=<a@b> to=<c@d>", 451, "4.7.1",
         ReplyClass.TRANSIENT),
        ("reject: header Subject: The week from w[192.0.2.7]; from=<a@b> to=<c@d> proto=ESMTP helo=<h>: 5.7.1 no", 550,
         "5.7.1", ReplyClass.POLICY),
    ],
)  # fmt: skip
def test_a_letter_that_was_read_to_its_end_and_refused(line, code, enhanced, of):
    found = finding([*taken(status=None)[:2], syslog(MONDAY, "cleanup", f"{SHORT}: {line}")])
    assert (found.fate, found.code, found.enhanced, found.reply_class) == (Fate.REFUSED, code, enhanced, of)


def test_a_letter_that_a_filter_threw_away_was_taken():
    thrown = "milter-discard: END-OF-MESSAGE from w[192.0.2.7]: milter triggers DISCARD action; from=<a@b> to=<c@d>"
    assert finding([*taken(status=None)[:2], syslog(MONDAY, "cleanup", f"{SHORT}: {thrown}")]).fate is Fate.TAKEN


@pytest.mark.parametrize(
    ("dsn", "said", "code", "of"),
    [
        ("5.1.1", "host mx[192.0.2.1] said: 550 5.1.1 <x@y>: User unknown (in reply to RCPT TO command)", 550, "hard"),
        ("5.2.2", "host mx[192.0.2.1] said: 552 5.2.2 mailbox full (in reply to RCPT TO command)", 552, "soft"),
        ("5.7.1", "host mx[192.0.2.1] said: 554-5.7.1 spam 554 5.7.1 x (in reply to end of DATA)", 554, "policy"),
        ("5.0.0", "host mx[192.0.2.1] said: 550 no such user here (in reply to RCPT TO command)", 550, "hard"),
        ("5.4.4", "Host or domain name not found. Name service error for name=y type=A", 550, "hard"),
        ("5.1.1", 'unknown user: "nobody"', 550, "hard"),
    ],
)
def test_a_bounce_that_came_later_is_evidence_about_the_mailbox(dsn, said, code, of):
    found = finding(taken(status="bounced", dsn=dsn, said=said))
    assert (found.fate, found.status) == (Fate.TAKEN, "bounced")
    assert (found.code, found.enhanced, found.reply_class.value) == (code, dsn, of)


def test_a_letter_that_the_relay_gave_up_says_why_by_its_last_deferral():
    full = delivery(status="deferred", dsn="4.2.2", said="host mx[192.0.2.1] said: 452 4.2.2 mailbox full")
    days = MONDAY + dt.timedelta(days=5)
    lines = [
        *taken(status=None),
        syslog(MONDAY, "smtp", f"{SHORT}: {full}"),
        syslog(days, "qmgr", f"{SHORT}: from=<b-00@weekly.example.org>, status=expired, returned to sender"),
        syslog(days, "qmgr", f"{SHORT}: removed"),
    ]
    found = finding(lines)
    assert (found.status, found.enhanced, found.reply_class) == ("expired", "4.2.2", ReplyClass.SOFT)


def to_two(*ends, message=OURS):
    """A letter to an alias with two addresses behind it: what became of it at each, second by second."""
    lines = taken(status=None, message=message)
    for second, (to, status, dsn) in enumerate(ends):
        told = delivery(to, status=status, dsn=dsn, said=f"host mx[192.0.2.1] said: {dsn[0]}50 {dsn} no")
        told = told.replace(", relay=", ", orig_to=<team@example.test>, relay=")
        lines.append(syslog(MONDAY + dt.timedelta(seconds=second), "smtp", f"{SHORT}: {told}"))
    return lines


GOT, GONE = ("anna@mx.test", "sent", "2.0.0"), ("left@example.test", "bounced", "5.1.1")
LATER, FULL = ("anna@mx.test", "deferred", "4.2.2"), ("anna@mx.test", "bounced", "5.2.2")
EXPIRED = syslog(MONDAY + dt.timedelta(days=5), "qmgr", f"{SHORT}: from=<b@e.test>, status=expired, returned to sender")


@pytest.mark.parametrize(
    ("ends", "status", "of"),
    [
        ([GOT, GONE], "sent", "accepted"),
        ([GONE, GOT], "sent", "accepted"),
        ([LATER, GONE, GOT], "sent", "accepted"),
        ([LATER, GONE], "deferred", "soft"),
        ([FULL, GONE], "bounced", "soft"),
        ([GONE, ("anna@mx.test", "bounced", "5.1.1")], "bounced", "hard"),
        ([("left@example.test", "deferred", "4.4.1"), GONE], "bounced", "hard"),
    ],
)
def test_who_got_a_letter_at_one_of_several_addresses_got_it(ends, status, of):
    found = finding(to_two(*ends))
    assert (found.fate, found.status, found.reply_class.value) == (Fate.TAKEN, status, of)


def test_what_was_given_up_is_what_still_waited():
    assert finding([*to_two(GOT, ("left@example.test", "deferred", "4.2.2")), EXPIRED]).status == "sent"
    gone_and_full = finding([*to_two(GONE, LATER), EXPIRED])
    assert (gone_and_full.status, gone_and_full.enhanced) == ("expired", "4.2.2")
    assert finding([*to_two(GONE), EXPIRED]).status == "bounced"
    assert finding([*taken(status=None), EXPIRED]).status == "expired"


def test_addresses_are_told_apart_by_what_the_next_reading_does_not_know():
    kept = [
        {fact.recipient for fact in log._facts[b"mail", SHORT.encode()] if fact.recipient}
        for log in (read(to_two(GOT, GONE), times=2), read(to_two(GOT, GONE)))
    ]
    assert [len(hashes) for hashes in kept] == [2, 2]
    assert not kept[0] & kept[1]


def test_a_queue_id_that_is_used_again_tells_of_each_letter_its_own():
    again = MONDAY + dt.timedelta(hours=3)
    lines = taken() + taken(message=OTHER, at=again, status="bounced", dsn="5.1.1", said="unknown user")
    log = read(lines, OURS, OTHER)
    assert (log.finding(OURS).status, log.finding(OTHER).status) == ("sent", "bounced")

    # The second letter is a stranger's, and only began: it takes nothing from the first, nor the first from it.
    stranger = syslog(again, "cleanup", f"{SHORT}: message-id=<not-ours@example.test>")
    bounced = syslog(again, "smtp", f"{SHORT}: {delivery(status='bounced', dsn='5.1.1')}")
    assert finding([*taken(), stranger, bounced]).status == "sent"
    before = taken(message="a" * 32, at=MONDAY - dt.timedelta(hours=1))
    assert finding([*before, *taken(status=None)[:2]]).fate is Fate.BEGUN


def test_the_same_queue_id_on_two_relays_is_two_letters():
    elsewhere = [line.replace(b" mail ", b" mail2 ") for line in taken(message=OTHER, status="bounced", dsn="5.1.1")]
    log = read([*taken(), *elsewhere], OURS, OTHER)
    assert (log.finding(OURS).status, log.finding(OTHER).status) == ("sent", "bounced")


def test_a_letter_that_passes_a_filter_and_the_queue_twice_is_judged_by_both():
    filtered = taken("AAAAA1", status="sent", said="250 2.0.0 Ok: queued as BBBBB1")
    assert finding(filtered + taken("BBBBB1", status="bounced", dsn="5.1.1")).status == "bounced"
    assert finding(filtered + taken("BBBBB1", status=None)[:2]).fate is Fate.TAKEN


@pytest.mark.parametrize("said", ['"a>, dsn=2.0.0, status=sent (x"@y', "a, dsn=5.1.1, status=bounced (user unknown)@y"])
def test_an_address_made_to_look_like_a_status_is_an_address(said):
    found = finding(taken(to=said, status="deferred", dsn="4.4.1", said="timed out"))
    assert (found.status, found.enhanced) == ("deferred", "4.4.1")


def test_a_servers_words_made_to_look_like_a_status_are_words():
    said = "host mx[192.0.2.1] said: 250 ok, relay=x, delay=1, dsn=5.1.1, status=bounced (user unknown)"
    assert finding(taken(said=said)).status == "sent"


@pytest.mark.parametrize("more", ["conn_use=3, ", "tls=dane, ", "tls=secure/requiretls, ", "tls=none, queue2_id=7, "])
def test_fields_that_newer_relays_write_before_the_status_hide_nothing(more):
    said = "host mx[192.0.2.1] said: 550 5.1.1 unknown, relay=x, tls=may, dsn=2.0.0, status=sent (queued)"
    lines = taken(status="bounced", dsn="5.1.1", said=said)
    assert finding([line.replace(b"dsn=5", more.encode() + b"dsn=5") for line in lines]).enhanced == "5.1.1"
    given = [line.replace(b"dsn=2", more.encode() + b"dsn=2") for line in taken(said=said.replace("2.0.0", "5.1.1"))]
    assert finding(given).status == "sent"


def test_years_that_a_stamp_lacks_are_the_latest_that_can_be():
    new_year = dt.datetime(2019, 1, 1, 9, 0, tzinfo=dt.UTC)
    log = MailLog([OURS], now=new_year, zone=dt.UTC)
    log.read([b"Dec 31 23:59:59 mail postfix/smtpd[1]: connect", b"Jan  1 00:00:01 mail postfix/smtpd[1]: connect",
              b"Feb 29 00:00:01 mail postfix/smtpd[1]: connect", b"Feb 30 00:00:01 mail postfix/smtpd[1]: connect"])  # fmt: skip
    covered = log.coverage()
    assert covered.unreadable == 1
    assert covered.spans == [
        (
            dt.datetime(2016, 2, 29, 0, 0, 1, tzinfo=dt.UTC),
            dt.datetime(2019, 1, 1, 0, 0, 1, tzinfo=dt.UTC),
        )
    ]


def test_a_stamp_without_a_zone_is_of_the_zone_that_was_given():
    east = dt.timezone(dt.timedelta(hours=3))
    at = MONDAY.replace(tzinfo=east)
    assert finding(taken(at=at, form=syslog)).at == MONDAY
    log = MailLog([OURS], now=NOW, zone=east)
    log.read(taken(form=syslog))
    assert log.finding(OURS).at == MONDAY - dt.timedelta(hours=3)


def test_a_stamp_without_a_zone_is_of_this_machines_by_the_rules_of_its_date(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        log = read(
            [b"Jan  1 12:00:00 mail postfix/smtpd[1]: connect", b"2019-05-01T12:00:00 mail postfix/smtpd[1]: x"],
            zone=None,
        )
    finally:
        monkeypatch.undo()
        time.tzset()
    covered = log.coverage()
    assert covered.spans == [
        (
            dt.datetime(2019, 1, 1, 11, tzinfo=dt.UTC),
            dt.datetime(2019, 5, 1, 10, tzinfo=dt.UTC),
        )
    ]


def test_lines_that_are_far_apart_in_the_wrong_order_are_found_by_a_second_reading(monkeypatch):
    monkeypatch.setattr(maillog, "_RECENT", 10)
    mine = taken()
    strangers = [line for number in range(50) for line in taken(f"C{number:09X}", message=f"{number:032x}")]
    backwards = [*mine[2:], *strangers, *mine[:2]]
    assert read(backwards).finding(OURS).fate is Fate.BEGUN
    assert read(backwards, times=2).finding(OURS).status == "sent"


def test_memory_does_not_grow_with_the_log(monkeypatch):
    monkeypatch.setattr(maillog, "_RECENT", 10)
    log = read(line for number in range(200) for line in taken(f"C{number:09X}", message=f"{number:032x}"))
    assert len(log._recent) == 10
    log.read([syslog(MONDAY, "qmgr", f"{SHORT}: removed")] * 1000)
    assert max(map(len, log._recent.values())) <= 50


def test_no_address_is_kept():
    log = read(taken(to="canary-x7Qz@example.test", status="bounced", dsn="5.1.1",
                     said="host mx said: 550 5.1.1 <canary-x7Qz@example.test> unknown"), OURS)  # fmt: skip
    assert "canary" not in repr(log.__dict__)
    assert "canary" not in repr(log.finding(OURS))


# Any log at all: letters of ours and strangers, on queue ids that are used again, with lines mixed up and repeated.

_lives = st.lists(
    st.tuples(
        st.sampled_from([SHORT, LONG, "AAAAA1"]),
        st.sampled_from([OURS, OTHER, None]),
        st.sampled_from(["begun", "queued", "sent", "bounced", "deferred", "refused"]),
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(_lives, st.sampled_from(FORMS), st.randoms(use_true_random=False), st.binary(max_size=60))
def test_whatever_the_order_of_the_lines_a_letter_is_taken_only_if_the_relay_took_it(lives, form, rng, garbage):
    lines, was_taken, was_seen, bounced = [], set(), set(), set()
    for number, (queue, message, end) in enumerate(lives):
        whole = taken(
            queue, message or f"{number:032x}", MONDAY + dt.timedelta(minutes=number), form,
            status=end if end in {"sent", "bounced", "deferred"} else None,
            dsn={"sent": "2.0.0", "bounced": "5.1.1", "deferred": "4.4.1"}.get(end, ""),
        )  # fmt: skip
        if end in {"begun", "refused"}:
            whole = whole[:2]
        if end == "refused":
            at = MONDAY + dt.timedelta(minutes=number)
            whole.append(form(at, "cleanup", f"{queue}: milter-reject: END-OF-MESSAGE from w[::1]: 5.7.1 no; from=<>"))
        lines += whole
        was_seen.add(message)
        if end not in {"begun", "refused"}:
            was_taken.add(message)
        if end == "bounced":
            bounced.add(message)
    lines += [garbage, *rng.sample(lines, min(3, len(lines)))]
    rng.shuffle(lines)

    log = read(lines, OURS, OTHER, times=2)

    for message in (OURS, OTHER):
        found = log.finding(message)
        assert (found.fate is Fate.TAKEN) == (message in was_taken)
        assert (found.fate is Fate.UNKNOWN) == (message not in was_seen)
        assert (found.status == "bounced") == (message in bounced)


@settings(max_examples=300)
@given(st.data())
def test_no_line_however_broken_stops_the_reading(data):
    lines = [line for form in FORMS for line in taken(form=form)]
    broken = []
    for _ in range(5):
        line = bytearray(data.draw(st.sampled_from(lines)))
        for _ in range(data.draw(st.integers(0, 6))):
            at = data.draw(st.integers(0, len(line) - 1))
            line[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
            line = line or bytearray(b" ")
        broken.append(bytes(line))
    log = read(broken)
    assert log.finding(OURS).fate in Fate
    assert log.coverage().lines <= 5


def test_a_line_made_to_be_slow_is_not():
    evil = [
        b"Jun  3 07:12:01 mail postfix/smtp[1]: AAAAA1: to=<" + b'"' * 8000 + b"<" * 8000,
        b"Jun  3 07:12:01 mail postfix/smtp[1]: AAAAA1: to=<a>, relay=" + b", delay=1" * 1700 + b", dsn=x",
        b"Jun  3 07:12:01 mail postfix/smtp[1]: AAAAA1: to=<a>, relay=x" + b", a0_=, b=1" * 1400 + b", dsn=2.0.0, x",
        b"<22>1 2019-06-03T07:12:01Z h p - - " + b'[a b="c"]' * 1700,
        b"<22>1 2019-06-03T07:12:01Z h p - - [" + b"\\" * 16000,
        b"Jun  3 07:12:01 mail postfix/cleanup[1]: AAAAA1: reject: header " + b": 5.7.1" * 2000,
    ]
    began = dt.datetime.now(dt.UTC)
    log = read(random.Random(1).choices(evil, k=50))
    assert (dt.datetime.now(dt.UTC) - began).total_seconds() < 5
    assert log.coverage().lines == 50


def test_files_with_a_gap_between_them_do_not_cover_it():
    def at(minute):
        return MONDAY + dt.timedelta(minutes=minute)

    log = MailLog([OURS], now=NOW, zone=dt.UTC)
    # In any order; between the last two there is no more than a relay's silence, and one lies within another.
    for first, last in [(90, 120), (0, 30), (124, 180), (100, 110)]:
        lines = [syslog(at(minute), "anvil", "statistics: max 1") for minute in (first, last)]
        log.read(lines)
        log.read(lines, again=True)
    covered = log.coverage()
    assert covered.spans == [(at(0), at(30)), (at(90), at(180))]
    assert covered.lines == 8
    assert covered.covers(at(0), at(30))
    assert covered.covers(at(95), at(175))
    assert not covered.covers(at(60), at(60))
    assert not covered.covers(at(20), at(100))
    assert not MailLog([OURS], now=NOW, zone=dt.UTC).coverage().covers(at(0), at(0))
