"""The fault points: every name stands in the code once, and nothing but a test's own code can arm them."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

from service import faults
from tests.chaos import matrix, test_restoring

SERVICE = Path(faults.__file__).parent


def calls(name):
    """The first arguments of every `faults.<name>(…)` of the service."""
    return [
        node.args[0].value if isinstance(node.args[0], ast.Constant) else ast.unparse(node)
        for path in SERVICE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"faults.{name}", name}
    ]


@pytest.fixture
def armed():
    said = []
    faults.arm(said.append)
    yield said
    faults.arm(None)


def test_each_named_point_stands_in_the_code_exactly_once():
    assert Counter(calls("point")) == Counter(faults.POINTS)


def test_a_worker_is_killed_at_every_point():
    assert sorted([*matrix.POINTS, *test_restoring.POINTS]) == sorted(faults.POINTS | faults.PER_LETTER.keys())


def test_there_are_enough_points_and_no_name_means_two():
    assert len(faults.POINTS) + len(faults.PER_LETTER) >= 25
    assert not faults.POINTS & set(faults.PER_LETTER)


@pytest.mark.parametrize("name", sorted(faults.PER_LETTER))
def test_a_point_that_each_letter_passes_names_a_method_that_there_is(name):
    for where in faults.PER_LETTER[name][1]:
        module, _, path = where.partition(":")
        owner, method = path.split(".")
        assert callable(getattr(getattr(importlib.import_module(module), owner), method))


def test_an_armed_process_hears_of_each_point_that_it_passes_and_no_more_once_disarmed(armed):
    faults.point("after-claim")
    faults.arm(None)
    faults.point("after-gate")
    assert armed == ["after-claim"]


def test_no_module_of_the_service_can_arm_them():
    assert calls("arm") == []
    assert not [path for path in SERVICE.rglob("*.py") if path.name != "faults.py" and "_armed" in path.read_text()]
    assert "environ" not in (SERVICE / "faults.py").read_text()


def test_every_test_that_the_table_of_faults_names_is_there():
    text = (SERVICE.parent / "docs" / "faults.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 20
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (SERVICE.parent / path).read_text()]
    assert missing == []
