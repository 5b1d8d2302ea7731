"""What is half-written is hidden, is never taken for whole, and is swept away once its writer is gone."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.running import StoreError, new_files, new_folder, sweep_away_partial
from experiments.running.store import PARTIAL, partial_folder
from experiments.running.sweep_folder import scratch


def left_by_a_killed_writer(parent: Path, name: str = "run") -> Path:
    """A half-written folder whose process has been killed, for real."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        with partial_folder(parent, f".{name}") as partial:
            (partial / "requests.parquet").write_bytes(b"PAR1")
            os.write(writer, b"written")
            signal.pause()
    try:
        assert os.read(reader, 7) == b"written"
        assert sweep_away_partial(parent, f".{name}") == []  # it is still being written
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
    (left,) = parent.glob(f".{name}{PARTIAL}*")
    return left


def test_the_next_writer_of_a_name_takes_away_what_a_killed_one_left(tmp_path: Path) -> None:
    left, other = left_by_a_killed_writer(tmp_path), left_by_a_killed_writer(tmp_path, "run2")
    with new_folder(tmp_path / "run"):
        assert not left.exists()
        assert sweep_away_partial(tmp_path, ".run") == []
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "run"]


def test_clean_removes_what_nobody_writes_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.require_root", lambda: None)
    monkeypatch.setattr("testbed.reclaim", lambda: False)
    (tmp_path / "deep").mkdir()
    left = left_by_a_killed_writer(tmp_path / "deep")
    with new_folder(tmp_path / "deep" / "other"):
        said = CliRunner().invoke(app, ["clean", str(tmp_path)])
        assert said.output == f"send buffer: nothing to restore\nremoved {left}\nhalf-written runs: 1\n"
    assert [place.name for place in (tmp_path / "deep").iterdir()] == ["other"]


def test_new_files_take_the_places_of_the_old_ones_together(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("old")
    (tmp_path / "sweep.json").write_text("{}")
    with new_files(tmp_path) as partial:
        (partial / "table.csv").write_text("new")
        (partial / "conclusions.txt").write_text("said")
        assert (tmp_path / "table.csv").read_text() == "old"
    found = {place.name: place.read_text() for place in tmp_path.iterdir()}
    assert found == {"table.csv": "new", "sweep.json": "{}", "conclusions.txt": "said"}


def failing(folder: Path, problem: BaseException) -> None:
    with new_files(folder) as partial:
        (partial / "table.csv").write_text("n")
        raise problem


def test_new_files_that_fail_leave_the_old_ones(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("old")
    with pytest.raises(StoreError, match=f"^{tmp_path}: No space left on device$"):
        failing(tmp_path, OSError(28, "No space left on device"))
    with pytest.raises(KeyboardInterrupt):
        failing(tmp_path, KeyboardInterrupt())
    assert [place.read_text() for place in tmp_path.iterdir()] == ["old"]


def test_temporary_files_of_a_sweep_are_in_its_folder_while_it_runs(tmp_path: Path) -> None:
    before = tempfile.gettempdir()
    with scratch(tmp_path):
        (folder,) = tmp_path.iterdir()
        assert folder.name.startswith(f".scratch{PARTIAL}")
        assert tempfile.gettempdir() == str(folder)
        (folder / "dask-scratch-space").mkdir()
        assert sweep_away_partial(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() == before
