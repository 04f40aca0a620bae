"""That the disks of these tests are what they say."""

from __future__ import annotations

import os

import pytest

from tests.chaos.disks import fill_up, fragile_disk, small_disk


def test_a_full_disk_takes_nothing_until_there_is_room(tmp_path):
    with small_disk(tmp_path / "small", 2) as disk:
        (disk / "there").write_bytes(b"before")
        ballast = fill_up(disk)
        with pytest.raises(OSError, match="No space left"):
            (disk / "new").write_bytes(b"x")
        ballast.unlink()
        (disk / "new").write_bytes(b"x")
        assert (disk / "there").read_bytes() == b"before"


def test_a_power_cut_loses_what_was_not_synced_and_nothing_else(tmp_path):
    with fragile_disk(tmp_path, 16) as disk:
        for name in ("synced", "not-synced"):
            with (disk.place / name).open("wb") as file:
                file.write(b"x" * 9000)
                if name == "synced":
                    file.flush()
                    os.fsync(file.fileno())
        disk.cut_power()
        with pytest.raises(OSError, match="Input/output error"):
            (disk.place / "new").write_bytes(b"x")
        disk.come_back()
        assert (disk.place / "synced").stat().st_size == 9000
        lost = disk.place / "not-synced"
        assert not lost.exists() or lost.stat().st_size == 0
