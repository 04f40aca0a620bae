"""What dead processes leave behind is gone before another test begins."""

import gc

import pytest


@pytest.fixture(autouse=True)
def cleared():
    """Whatever coroutines a dead process left are collected within this test, which is told not to mind them."""
    yield
    gc.collect()
