"""Run folders: the contract of what is in them, written whole or not at all, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.running import store
from experiments.running.errors import StoreError
from experiments.running.store import check_free, is_run, read_manifest, read_summary, read_table, write_run
from tests.support.made_runs import lost, outcome, record, spec

VALID = {"verdict": "valid", "reasons": []}
REQUESTS = [
    "request_id", "timestamp_s", "input_length", "output_length", "policy", "prefill_id", "decode_id", "tier",
    "cached_tokens", "kv_bytes", "queue_ms", "prefill_ms", "kv_transfer_ms", "admission_ms", "ttft_ms", "tpot_ms",
    "e2el_ms", "oracle_age_ms", "predicted_kv_transfer_ms", "decision_us", "status", "error",
]  # fmt: skip
FILES = ["decisions.parquet", "links.parquet", "manifest.json", "requests.parquet", "summary.json"]


def write(out: Path, **fields: Any) -> dict[str, Any]:
    return write_run(out, spec(seed=7), outcome(record(0), lost(1, "rejected", "too long"), **fields), VALID)


def test_a_run_folder_holds_what_the_contract_names(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    summary = write(out)
    assert sorted(place.name for place in out.iterdir()) == FILES
    assert [place.name for place in out.parent.iterdir()] == ["run"]
    assert list(read_table(out, "requests")) == REQUESTS
    assert list(read_table(out, "links")) == ["time_s", "link", "utilisation", "bytes"]
    assert read_summary(out) == summary
    assert is_run(out)


def test_the_columns_of_requests_have_their_types_whatever_became_of_them(tmp_path: Path) -> None:
    write(tmp_path / "run")
    table = read_table(tmp_path / "run", "requests")
    assert table["status"].tolist() == ["completed", "rejected"]
    assert table["error"].tolist() == ["", "too long"]
    assert np.isnan(table["ttft_ms"][1])
    kinds = {name: table[name].dtype.kind for name in REQUESTS}
    whole = {
        "request_id",
        "input_length",
        "output_length",
        "prefill_id",
        "decode_id",
        "tier",
        "cached_tokens",
        "kv_bytes",
    }
    assert {name for name, kind in kinds.items() if kind == "i"} == whole
    assert {name for name, kind in kinds.items() if kind == "f"} == set(REQUESTS) - whole - {
        "policy",
        "status",
        "error",
    }


def test_the_manifest_says_what_the_run_was_made_from(tmp_path: Path) -> None:
    write_run(tmp_path / "run", spec(seed=7), outcome(record(0)), {"verdict": "suspect", "reasons": ["late"]})
    manifest = read_manifest(tmp_path / "run")
    assert {"spec", "seed", "versions", "git_commit", "machine", "verdict"} <= set(manifest)
    assert (manifest["seed"], manifest["world"], manifest["verdict"]) == (7, "analytic", "suspect")
    assert manifest["verdict_reasons"] == ["late"]
    assert manifest["spec"] == spec(seed=7).model_dump(mode="json")
    assert {"python", "kernel", "numpy", "openvswitch", "mininet"} <= set(manifest["versions"])
    assert {"cores", "memory_GiB", "processor"} == set(manifest["machine"])


def test_the_manifests_spec_makes_the_same_run_again(tmp_path: Path) -> None:
    made = spec(seed=7, workload__requests=3, serving__stripes=8, congestion__kind="none")
    write_run(tmp_path / "run", made, outcome(record(0)), VALID)
    assert type(made).model_validate(read_manifest(tmp_path / "run")["spec"]) == made


def test_evidence_that_json_has_no_word_for_is_null(tmp_path: Path) -> None:
    evidence = {"nan": float("nan"), "deep": [{"inf": float("inf")}], "count": np.int64(3), "share": np.float32(0.5)}
    write(tmp_path / "run", evidence=evidence)
    text = (tmp_path / "run" / "manifest.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["evidence"]
    assert found == {"nan": None, "deep": [{"inf": None}], "count": 3, "share": 0.5}


def test_gaps_between_tokens_weigh_as_often_as_they_occurred(tmp_path: Path) -> None:
    summary = write(tmp_path / "run", token_gaps_ms=[10.0, 40.0], token_gap_counts=[9, 1])
    assert summary["mean_itl_ms"] == 13.0
    assert summary["median_itl_ms"] == 10.0


def test_a_run_without_a_single_decision_can_be_read(tmp_path: Path) -> None:
    write_run(tmp_path / "run", spec(), outcome(lost(0, "rejected", "too long"), decisions=[]), VALID)
    decisions = read_table(tmp_path / "run", "decisions")
    assert len(decisions) == 0
    assert {"request_id", "decode_id", "fallback"} <= set(decisions)


# Whole or not at all


class Killed(BaseException):
    """Stands for SIGTERM, Ctrl-C or a full disk in the middle of a write."""


@pytest.mark.parametrize("problem", [Killed(), OSError(28, "No space left on device"), ValueError("mixed types")])
@pytest.mark.parametrize("at", range(12))
def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, problem: BaseException
) -> None:
    """Five files, each and their folder put on the disk, and the move into place: whichever fails, nothing is left."""
    calls = 0

    def failing(original: Any) -> Any:
        def write(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at + 1:
                raise problem
            return original(*arguments, **options)

        return write

    monkeypatch.setattr(Path, "write_bytes", failing(Path.write_bytes))
    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "rename", failing(os.rename))
    expected = StoreError if isinstance(problem, OSError) else type(problem)
    with pytest.raises(expected):
        write(tmp_path / "run")
    assert calls == at + 1
    assert list(tmp_path.iterdir()) == []


def test_all_of_a_run_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(handle: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def renamed(source: Path, target: Path) -> None:
        events.append(f"rename to {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    write(tmp_path / "run")
    *files, partial, move, parent = events
    assert files == FILES
    assert partial.startswith(".run.partial-")
    assert (move, parent) == ("rename to run", tmp_path.name)


def test_a_file_system_that_cannot_sync_a_folder_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", files_only)
    write(tmp_path / "run")
    assert is_run(tmp_path / "run")


def test_what_a_killed_write_leaves_is_no_run_and_is_swept_away(tmp_path: Path) -> None:
    """SIGKILL at every step of a write, for real: a folder is there with all its files, or it is not there."""
    ended_by_itself, seen = False, set()
    for at in range(1, 30):
        if (child := os.fork()) == 0:
            _write_and_die(tmp_path / "run", at)
        ended_by_itself = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        whole = [sorted(place.name for place in out.iterdir()) for out in tmp_path.glob("run")]
        assert whole in ([], [FILES])
        seen.add((bool(whole), len(list(tmp_path.glob(".run.partial-*")))))
        store.sweep_away_partial(tmp_path)
        assert [place.name for place in tmp_path.iterdir()] == ["run"] * len(whole)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        if ended_by_itself:
            break
    assert ended_by_itself
    assert seen == {(False, 1), (True, 0)}


def _write_and_die(out: Path, at: int) -> None:
    """In a child: the call with this number is its last."""
    calls = 0

    def last(original: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return call

    for place, name in ((Path, "write_bytes"), (os, "fsync"), (os, "rename")):
        setattr(place, name, last(getattr(place, name)))
    store.write_files(out, dict.fromkeys(FILES, b"content"))
    os._exit(0)


def test_a_full_disk_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(StoreError, match="run: No space left on device"):
        write(tmp_path / "run")


# Where a run may go


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write(tmp_path / "run")
    assert is_run(tmp_path / "run")


def test_the_folder_one_stands_in_may_be_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    write(Path())
    assert is_run(tmp_path / "run")


def test_a_name_as_long_as_a_name_may_be(tmp_path: Path) -> None:
    write(tmp_path / ("r" * 255))
    assert is_run(tmp_path / ("r" * 255))


def a_file(place: Path) -> None:
    place.write_text("thesis")


def a_full_folder(place: Path) -> None:
    place.mkdir()
    (place / "thesis.txt").touch()


def a_link_to_nowhere(place: Path) -> None:
    place.symlink_to("nowhere")


def a_link_to_an_empty_folder(place: Path) -> None:
    (place.parent / "elsewhere").mkdir()
    place.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [a_file, a_full_folder, a_link_to_nowhere, a_link_to_an_empty_folder, write])
def test_what_is_there_already_is_never_overwritten(tmp_path: Path, make: Any) -> None:
    out = tmp_path / "run"
    make(out)
    before = sorted(str(place) for place in tmp_path.rglob("*"))
    for attempt in (check_free, write):
        with pytest.raises(StoreError, match=re.escape(f"{out}: is there already; nothing was overwritten")):
            attempt(out)
    assert sorted(str(place) for place in tmp_path.rglob("*")) == before


def test_a_place_under_a_file_is_refused_before_the_run(tmp_path: Path) -> None:
    a_file(tmp_path / "file")
    with pytest.raises(StoreError, match=re.escape(f"{tmp_path}/file is a file, not a folder")):
        check_free(tmp_path / "file" / "deep" / "run")


# Reading


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    for read in (read_manifest, read_summary, lambda place: read_table(place, "requests")):
        with pytest.raises(StoreError, match=f"^{re.escape(str(tmp_path))}: not a run folder: "):
            read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", "{"),
        ("manifest.json", "[]"),
        ("manifest.json", "{}"),
        ("manifest.json", b"\xff"),
        ("summary.json", ""),
        ("requests.parquet", "not parquet"),
        ("requests.parquet", ""),
    ],
)
def test_a_damaged_run_folder_is_refused_by_the_file(tmp_path: Path, name: str, content: str | bytes) -> None:
    write(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    reader = {"manifest.json": read_manifest, "summary.json": read_summary}.get(
        name, lambda at: read_table(at, "requests")
    )
    with pytest.raises(StoreError, match=re.escape(name)):
        reader(tmp_path / "run")


def test_every_table_has_a_reader(tmp_path: Path) -> None:
    write(tmp_path / "run")
    assert [len(read_table(tmp_path / "run", table)) for table in store.TABLES] == [2, 2, 1]
