"""Files that may not be opened, also where tests run as root, whom no mode of a file keeps out by itself."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_LIBC = ctypes.CDLL(None, use_errno=True)
_VERSION = 0x20080522  # of the header, linux/capability.h
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _ask(call, header, data):
    if call(ctypes.byref(header), data):
        raise OSError(ctypes.get_errno(), "capabilities")


def heed():
    """From now on modes count for this thread and what it forks, as they do for any user who is not root.

    What it could do before, to give it back with `_give_back`.
    """
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    _ask(_LIBC.capget, header, data)
    before = data[0].effective
    data[0].effective = before & ~_OVERRIDES
    _ask(_LIBC.capset, header, data)
    return before


def _give_back(effective):
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    _ask(_LIBC.capget, header, data)
    data[0].effective = effective
    _ask(_LIBC.capset, header, data)


@contextmanager
def heeded() -> Iterator[None]:
    """Modes count for this thread meanwhile."""
    before = heed()
    try:
        yield
    finally:
        _give_back(before)
