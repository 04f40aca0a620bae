"""Lines count one after another: where chunks end changes nothing, and a dry run says what the import will say."""

import itertools
from collections import Counter
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.audience.effects import EVERY, Known, effect
from service.audience.said import Said
from service.audience.suppressing import unsuppress
from service.domain.chains import Chain
from service.domain.subscriber import SubscriberStatus, SuppressionReason, outranks
from service.domain.weeks import Week
from service.store import subscribers, suppressions
from tests.growth import sums
from tests.unit.audience.files import NOW
from tests.unit.audience.test_importing import HEADER, counts, find

WEEK = Week(2019, 23)
CHAIN = Chain(("be",))
LASTING = {SuppressionReason.COMPLAINED, SuppressionReason.OPERATOR}
RUNS = itertools.count()
NAMES = ("ann", "bob", "cid")


def text(said, run="one"):
    return HEADER + "".join(f"{name}.{run}@reader.test,be,{word},\n" for name, word in said)


def known(importing, address):
    with importing.database.read() as session:
        reader = subscribers.find(session, address)
        reason = suppressions.find(session, session.sealer.address_hash(address))
    return Known(reader and reader.status, reason and reason.reason)


def put(importing, run, before):
    """Have the database know that of each name."""
    address = "{}.{}@reader.test".format
    with importing.database.begin() as session:
        for name, (status, reason) in before.items():
            if status is not None:
                subscribers.add(session, address(name, run), CHAIN, status=status, consent=None, week=WEEK)
            if reason is not None:
                suppressions.add(session, session.sealer.address_hash(address(name, run)), reason, WEEK)


def steps(importing, run):
    """What was written down of each name, in its order."""
    with importing.database.read() as session:
        hashes = {session.sealer.address_hash(f"{name}.{run}@reader.test"): name for name in NAMES}
    found = {name: [] for name in NAMES}
    for one in importing.departures.read():
        if one.address_hash in hashes:
            found[hashes[one.address_hash]].append(one.step)
    # A suppression and leaving are two matters; of each the order counts.
    return {name: sorted(said, key=lambda step: step == "unsubscribed") for name, said in found.items()}


def told(importing, said, before, **options):
    """Report, knowledge, growth and departures of one import of these lines by readers of its own."""
    run = f"r{next(RUNS)}"
    put(importing, run, before)
    grown = sums(importing.database).get((str(WEEK), "be"), {})
    report = asdict(importing(text(said, run), **options))
    after = sums(importing.database).get((str(WEEK), "be"), {})
    del report["source"]
    return (
        report,
        {name: known(importing, f"{name}.{run}@reader.test") for name in NAMES},
        Counter(after) - Counter(grown),
        steps(importing, run),
    )


lines = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(Said)), max_size=12)
befores = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(EVERY))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(said=lines, before=befores, chunk=st.integers(1, 12), other=st.integers(1, 12))
def test_wherever_chunks_end_and_in_a_dry_run_the_same_is_told(importing_to_sqlite, said, before, chunk, other):
    whole = told(importing_to_sqlite, said, before)
    assert told(importing_to_sqlite, said, before, chunk=chunk) == whole
    dry, unchanged, grown, written = told(importing_to_sqlite, said, before, chunk=other, dry_run=True)
    assert dry == whole[0]
    assert unchanged == {name: before.get(name, Known(None, None)) for name in NAMES}
    assert not grown
    assert not any(written.values())
    counted = ("new", "known", "suppressed", "unsubscribed", "unconfirmed", "invalid")
    assert dry["lines"] == len(said) == sum(dry[name] for name in counted)


@pytest.mark.parametrize("chunk", [1, 100])
@pytest.mark.parametrize(
    ("words", "standing", "reason", "told"),
    [
        (("pending", "blocked"), None, "operator", {"unconfirmed": 1, "suppressed": 1}),
        (("unsubscribed", "complained"), "complained", "complained", {"unsubscribed": 2}),
        (("unsubscribed", "blocked"), "unsubscribed", "operator", {"unsubscribed": 1, "suppressed": 1}),
        (("bounced", "complained"), "complained", "complained", {"unsubscribed": 1, "suppressed": 1}),
        (("bounced", "blocked"), "bounced", "operator", {"unsubscribed": 1, "suppressed": 1}),
        (("unsubscribed", "bounced"), "unsubscribed", "bounced", {"unsubscribed": 2}),
        (("pending", "active"), "active", None, {"unconfirmed": 1, "new": 1}),
        (("active", "unsubscribed"), "unsubscribed", None, {"new": 1, "unsubscribed": 1, "left": 1}),
        (("active", "pending"), "active", None, {"new": 1, "known": 1}),
        (("complained", "unsubscribed"), "complained", "complained", {"unsubscribed": 1, "suppressed": 1}),
        (("blocked", "active"), None, "operator", {"suppressed": 2}),
        (("bounced", "unsubscribed"), "unsubscribed", "bounced", {"unsubscribed": 1, "suppressed": 1}),
        (("complained", "bounced", "unsubscribed"), "complained", "complained", {"unsubscribed": 1, "suppressed": 2}),
    ],
)
def test_of_two_lines_about_one_reader_the_stronger_word_counts(importing, chunk, words, standing, reason, told):
    said = [("ann", word) for word in words]
    counts(importing(text(said), chunk=chunk, dry_run=True), **told)
    counts(importing(text(said), chunk=chunk), **told)
    assert known(importing, "ann.one@reader.test") == (standing, reason)


@pytest.mark.parametrize("reason", SuppressionReason)
@pytest.mark.parametrize("word", ["bounced", "complained", "blocked"])
def test_a_file_makes_a_suppression_lasting_and_never_less(importing, reason, word):
    put(importing, "one", {"ann": Known(SubscriberStatus.BOUNCED, reason)})
    counts(importing(text([("ann", word)])), suppressed=1)
    after = known(importing, "ann.one@reader.test")
    meant = {"bounced": "bounced", "complained": "complained", "blocked": "operator"}[word]
    lasting = reason not in LASTING and meant in LASTING
    assert after.suppression == (meant if lasting else reason)
    # Also where a lasting one is there already: lifted one day, it must not bring back who complained.
    assert after.status == ("complained" if word == "complained" else "bounced")
    assert [one.step for one in importing.departures.read()] == ([meant] if lasting else [])


def test_a_file_that_tells_more_of_one_who_left_is_not_repeated(importing):
    said = [("ann", word) for word in ("active", "unsubscribed", "bounced", "complained", "blocked")]
    importing(text(said))
    written = importing.departures.path.read_bytes()
    counts(importing(text(said)), suppressed=5)
    assert importing.departures.path.read_bytes() == written


def test_the_line_that_brings_a_reader_says_the_languages(importing_to_sqlite):
    head = "email,languages,status\n"
    importing_to_sqlite(head + "ann@reader.test,be,pending\nann@reader.test,ru,active\nann@reader.test,en,active\n")
    assert str(find(importing_to_sqlite, "ann@reader.test").chain) == "ru"


@given(st.sampled_from(EVERY), st.lists(st.sampled_from(Said), max_size=6))
def test_no_lines_in_whatever_order_bring_back_or_weaken(before, said):
    now = before
    for word in said:
        done = effect(now, word)
        if now.suppression is not None:
            assert done.after.suppression is not None
            assert not outranks(now.suppression, done.after.suppression)
            assert done.counted == "suppressed"
        if now.status is not None and now.status is not SubscriberStatus.ACTIVE:
            assert done.after.status is not SubscriberStatus.ACTIVE
        now = done.after
    if before.suppression in LASTING:
        assert now.suppression is before.suppression
        if not set(said) - {Said.ACTIVE, Said.PENDING}:
            assert now == before
    reachable = now.status is SubscriberStatus.ACTIVE and now.suppression is None
    if any(word not in {Said.ACTIVE, Said.PENDING} for word in said):
        assert not reachable
    if Said.BLOCKED in said or Said.COMPLAINED in said:
        assert now.suppression in LASTING


GONE = (SubscriberStatus.BOUNCED, SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.COMPLAINED)


@given(st.sampled_from([one for one in EVERY if one.status not in {None, SubscriberStatus.PENDING}]), st.data())
def test_where_a_reader_stands_in_the_end_is_the_heaviest_word_whatever_came_first_and_whatever_suppresses(
    before, data
):
    words = data.draw(st.lists(st.sampled_from(Said), min_size=1, max_size=6))
    now = before
    for word in words:
        now = effect(now, word).after
    said = [SubscriberStatus(word.value) for word in words if word.value in [*GONE]]
    heaviest = max([*said, *({before.status} & {*GONE})], key=GONE.index, default=before.status)
    assert now.status is heaviest


@pytest.mark.parametrize("reason", SuppressionReason)
@pytest.mark.parametrize("status", [SubscriberStatus.ACTIVE, SubscriberStatus.BOUNCED])
def test_who_left_by_a_file_while_suppressed_stays_away_when_that_is_lifted(importing, reason, status):
    put(importing, "one", {"ann": Known(status, reason)})
    counts(importing(text([("ann", "unsubscribed")])), suppressed=1)
    address = "ann.one@reader.test"
    assert known(importing, address) == Known(SubscriberStatus.UNSUBSCRIBED, reason)
    assert [one.step for one in importing.departures.read()] == ["unsubscribed"]
    with importing.database.begin() as session:
        unsuppress(session, importing.departures, address, actor="test", now=NOW)
    assert known(importing, address) == Known(SubscriberStatus.UNSUBSCRIBED, None)


@pytest.mark.parametrize("reason", SuppressionReason)
@pytest.mark.parametrize("word", ["unsubscribed", "bounced", "complained", "blocked"])
def test_of_who_was_only_asked_at_a_suppressed_address_a_file_leaves_the_keyed_hash_alone(importing, reason, word):
    put(importing, "one", {"ann": Known(SubscriberStatus.PENDING, reason)})
    importing(text([("ann", word)]))
    after = known(importing, "ann.one@reader.test")
    assert after.status is None
    assert not outranks(reason, after.suppression)
