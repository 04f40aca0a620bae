"""A sample of seeds, and by name those that once found something wrong. `make simulate` runs a hundred thousand."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import structlog

from tests.simulation import substitutes
from tests.simulation.many import quiet
from tests.simulation.mutants import found_after
from tests.simulation.people import second_week
from tests.simulation.seed import simulate, sleeper
from tests.simulation.templates import Shelf

# A dead process's coroutines are taken apart, and may leave others that never began.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = 40  # in each of the parts below
# The last three settle several journals, in the order of their senders' numbers, and name a host's disk.
TOLD_TWICE = (*range(1, 13), 54, 55, 60)


@pytest.fixture(scope="module")
def shelf():
    with substitutes.substituted():
        quiet()
        yield Shelf()
    structlog.reset_defaults()


@pytest.mark.parametrize("part", range(4))
def test_the_promise_is_kept_whatever_goes_wrong(shelf, part):
    failed = {}
    for seed in range(1 + part * SAMPLE, 1 + (part + 1) * SAMPLE):
        result = simulate(seed, shelf)
        if result.violations:
            failed[seed] = result.violations
    assert not failed


@pytest.mark.slow
def test_who_sleeps_for_hours_and_wakes_mails_nobody_twice(shelf):
    """Beyond its lease, and where a whole host sleeps beyond the hour after which it counts as away."""
    failed, counts = {}, Counter()
    for seed in [seed for seed in range(1, 800) if sleeper(seed)][:SAMPLE]:
        result = simulate(seed, shelf)
        counts += result.counts
        if result.violations:
            failed[seed] = result.violations
    assert not failed
    assert counts["stopped for hours"] >= SAMPLE // 2
    assert counts["hosts suspended"] >= SAMPLE // 4


@pytest.mark.slow
def test_of_two_mailings_at_once_each_keeps_the_promise_whichever_is_corrected(shelf):
    failed, counts = {}, Counter()
    for seed in [seed for seed in range(161, 800) if second_week(seed)][: 2 * SAMPLE]:
        result = simulate(seed, shelf)
        counts += result.counts
        if result.violations:
            failed[seed] = result.violations
    assert not failed
    assert counts["second mailings"] == 2 * SAMPLE
    assert counts["corrections"] >= SAMPLE // 2
    assert counts["cancelled and retried"] >= SAMPLE // 4
    assert counts["refused corrections"]


def told(seeds, shelf):
    """What the stories of these seeds come to."""
    return [hashlib.sha256(repr(simulate(seed, shelf).story).encode()).hexdigest() for seed in seeds]


def test_what_follows_a_reply_without_an_end_is_an_answer_to_nobody(shelf):
    """The last letter of such a session stays without a reply, though the relay said one to it."""
    assert simulate(908314, shelf).violations == []


@pytest.mark.parametrize("seed", [8003530, 8014677])
def test_a_gate_whose_commit_was_lost_is_taken_back_by_a_host_that_slept_until_it_was_given_up(shelf, seed):
    """The others had made its letters uncertain, though none was written, and its own journal is of a living worker."""
    assert simulate(seed, shelf).violations == []


@pytest.mark.parametrize("seed", [10001502, 10002441])
def test_whoever_moved_to_an_edition_yet_to_be_printed_waits_for_the_approval_of_a_correction(shelf, seed):
    """The mailing went on: one was skipped for want of an edition, the other got what was approved in the nick of time."""
    assert simulate(seed, shelf).violations == []


def test_a_worker_that_is_asked_to_stop_when_it_has_handed_over_a_batch_waits_in_peace(shelf):
    """There is room on the wire, and nobody may use it: whoever looks for it again and again never comes to rest."""
    assert simulate(8200801, shelf).violations == []


@pytest.mark.slow
def test_a_seed_tells_the_same_story_in_every_process(shelf):
    here = told(TOLD_TWICE, shelf)
    assert told(TOLD_TWICE, shelf) == here
    script = (
        "from tests.simulation.test_seeds import *\n"
        "with substitutes.substituted():\n"
        "    quiet()\n"
        "    print(told(TOLD_TWICE, Shelf()))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(here)


@pytest.mark.slow
def test_the_shortcut_to_the_database_changes_no_story(shelf):
    assert told(TOLD_TWICE, Shelf(straight=False)) == told(TOLD_TWICE, shelf)


@pytest.mark.parametrize("mutant", ["gate_without_readers", "silence_is_refusal", "old_edition_goes_on"])
def test_an_error_put_into_the_engine_is_found(shelf, mutant):
    """`make mutants` looks for all of them."""
    assert found_after(mutant, shelf, 200) is not None
