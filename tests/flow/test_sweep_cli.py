"""`tydzen sweep`, as an operator runs it."""

import json

import pytest


def test_it_says_whether_it_swept_or_another_did(tydzen):
    code, out, _ = tydzen("sweep", "--json")
    assert (code, json.loads(out)) == (0, {"swept": True})
    # The first holds the lock for a moment yet, so that the sweeps of many workers do not follow each other.
    assert json.loads(tydzen("sweep", "--json")[1]) == {"swept": False}
    assert "another process is sweeping" in tydzen("sweep")[2]


@pytest.mark.parametrize("every", ["-1", "inf", "nan", "soon"])
def test_a_pause_that_is_none_is_refused(tydzen, every):
    code, _, err = tydzen("sweep", "--every", every)
    assert code == 2
    assert "--every" in err
