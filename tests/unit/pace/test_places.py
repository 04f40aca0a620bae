"""Places for bulk work: as many as there are, and whoever dies gives his back."""

import os
import signal
import subprocess
import sys

import pytest

from service.pace.places import Places


def test_as_many_are_taken_at_once_as_there_are(tmp_path):
    places = Places.of_new_worker(tmp_path, 2)
    with places.taken() as one, places.taken() as two, places.taken() as three:
        assert (one, two, three) == (True, True, False)
    with places.taken() as again:
        assert again


def test_a_killed_holder_gives_its_place_back(tmp_path):
    places = Places.of_new_worker(tmp_path, 1)
    hold = (
        "import sys, time; from pathlib import Path; from service.pace.places import Places\n"
        "with Places(Path(sys.argv[1]), 1).taken() as mine: print(mine, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, places.folder], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with places.taken() as free:
        assert not free

    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()

    with places.taken() as free:
        assert free


def test_an_exception_gives_the_place_back(tmp_path):
    places = Places.of_new_worker(tmp_path, 1)
    with pytest.raises(RuntimeError), places.taken():
        raise RuntimeError
    with places.taken() as free:
        assert free


# A worker of its own with one place: says whether it got it, and ends when it is told to.
WORKER = (
    "import sys; from pathlib import Path; from service.pace.places import Places\n"
    "with Places.of_new_worker(Path(sys.argv[1]), 1).taken() as mine: print(mine, flush=True); sys.stdin.read()"
)


def worker(folder, *within):
    return subprocess.Popen(
        [*within, sys.executable, "-c", WORKER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_workers_in_containers_that_share_a_volume_have_places_of_their_own(tmp_path):
    # In a namespace of its own each of them is process 1.
    both = [worker(tmp_path, "unshare", "--user", "--pid", "--fork") for _ in range(2)]
    assert [one.stdout.readline() for one in both] == ["True\n", "True\n"]
    for one in both:
        one.communicate()


def test_what_dead_workers_leave_is_removed_and_what_others_need_is_not(tmp_path):
    alive, dead = worker(tmp_path), worker(tmp_path)
    assert [one.stdout.readline() for one in (alive, dead)] == ["True\n", "True\n"]
    (tmp_path / "4711").mkdir()  # of a worker of an older release
    before = set(tmp_path.iterdir())
    dead.kill()
    dead.communicate()

    Places.of_new_worker(tmp_path, 1)

    assert len(before) == 3
    assert len(before & set(tmp_path.iterdir())) == 2
    assert (tmp_path / "4711").is_dir()
    alive.communicate()
