"""Places for bulk work: as many as there are, and whoever dies gives his back."""

import os
import signal
import subprocess
import sys

import pytest

from service.pace.places import Places


def test_as_many_are_taken_at_once_as_there_are(tmp_path):
    places = Places(tmp_path / "places", 2)
    places.prepare()
    with places.taken() as one, places.taken() as two, places.taken() as three:
        assert (one, two, three) == (True, True, False)
    with places.taken() as again:
        assert again


def test_a_killed_holder_gives_its_place_back(tmp_path):
    places = Places(tmp_path / "places", 1)
    places.prepare()
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
    places = Places(tmp_path / "places", 1)
    places.prepare()
    with pytest.raises(RuntimeError), places.taken():
        raise RuntimeError
    with places.taken() as free:
        assert free
