"""A list on disk: the same items in the same order, and no file that anybody could find."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest

from testbed.spool import Spool


def test_items_come_back_in_order_as_they_were_and_more_can_follow() -> None:
    spool: Spool[dict[str, float]] = Spool()
    assert list(spool) == []
    item = {"at_s": 1.0}
    spool.append(item)
    item["at_s"] = 2.0
    spool.append(item)
    assert list(spool) == [{"at_s": 1.0}, {"at_s": 2.0}]
    spool.append({"at_s": 3.0})
    assert [one["at_s"] for one in spool] == [1.0, 2.0, 3.0] == [one["at_s"] for one in spool]
    assert len(spool) == 3


def test_its_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool: Spool[bytes] = Spool()
    spool.append(b"x" * 100_000)
    assert os.listdir(tmp_path) == []
    assert list(spool) == [b"x" * 100_000]


def test_where_the_disk_takes_no_more_items_are_kept_in_memory() -> None:
    """The limit of a file's size stands for the disk's: the item that meets it is written in part at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    spool: Spool[bytes] = Spool()
    items = [bytes([number]) * 700 for number in range(5)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for item in items:
            spool.append(item)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    spool.append(b"last")
    assert list(spool) == [*items, b"last"] == list(spool)
    assert len(spool) == 6
