"""A sweep that is interrupted anywhere can be continued, and is then what it would have been; one writer at a time."""

from __future__ import annotations

import ast
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.running import code_identity, sweep, sweep_folder
from experiments.running.errors import SpecError, StoreError
from experiments.running.sweep import DESCRIPTION, RUNS, Condition, read_sweep
from experiments.running.sweep_folder import hold
from tests.support.made_runs import spec
from tests.support.paths import ROOT
from tests.support.small_sweeps import kept, small_conditions, sweep_in

pytestmark = pytest.mark.xdist_group("resume")

CONDITIONS = small_conditions()
DEADLINE_S = 60.0


def forked(out: Path) -> int:
    """A process that sweeps into `out`, and exits with 3 where it may not."""
    if child := os.fork():
        return child
    try:
        sweep_in(out, CONDITIONS, resume=True)
    except StoreError as problem:
        os._exit(3 if "another process is working on this sweep" in str(problem) else 4)
    except BaseException:
        os._exit(5)
    os._exit(0)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def runs_in(out: Path) -> list[str]:
    return sorted(place.name for place in (out / RUNS).glob("[!.]*"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "sweep"
    sweep_in(out, CONDITIONS)
    return out


def test_a_sweep_killed_in_every_run_is_what_it_would_have_been(tmp_path: Path, unbroken: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed of the moments: {seed}")
    rng, out = random.Random(seed), tmp_path / "sweep"
    run_s = read_wall_s(unbroken)
    for done in range(len(CONDITIONS)):
        child = forked(out)
        until_s = time.monotonic() + DEADLINE_S
        while len(runs_in(out)) < done and time.monotonic() < until_s:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, run_s))
        os.kill(child, signal.SIGKILL)
        assert ended(child) in (-signal.SIGKILL, 0)
        assert done <= len(runs_in(out)) <= done + 2
        assert kept(out).items() <= kept(unbroken).items()
    assert ended(forked(out)) == 0
    assert kept(out) == kept(unbroken)
    assert sorted(place.name for place in (out / RUNS).iterdir()) == runs_in(unbroken)
    assert read_sweep(out).drop(columns="decision_us").equals(read_sweep(unbroken).drop(columns="decision_us"))


def read_wall_s(out: Path) -> float:
    """Seconds from the first run's folder to the last, by run."""
    written_s = sorted((out / RUNS / name).stat().st_mtime for name in runs_in(out))
    return (written_s[-1] - written_s[0]) / (len(written_s) - 1)


def test_what_a_killed_sweep_left_unfinished_is_swept_away(tmp_path: Path, unbroken: Path) -> None:
    sweep_in(tmp_path / "sweep", CONDITIONS)
    left = tmp_path / "sweep" / RUNS / ".netkv_full-seed1.partial-x7"
    left.mkdir()
    (left / "requests.parquet").write_bytes(b"PAR1")
    assert len(read_sweep(tmp_path / "sweep")) == len(read_sweep(unbroken))
    sweep_in(tmp_path / "sweep", CONDITIONS, resume=True)
    assert not left.exists()


@pytest.mark.parametrize("name", [sweep_folder.LOCK, sweep_folder.UNFINISHED])
def test_what_a_sweep_killed_at_its_very_beginning_left_is_in_nobodys_way(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    sweep_in(tmp_path, CONDITIONS[:1])
    assert runs_in(tmp_path) == [CONDITIONS[0].name]
    assert not (tmp_path / name).exists()


def test_a_sweep_that_never_began_removes_the_folders_it_made(tmp_path: Path) -> None:
    missing = small_conditions(workload__trace=str(ROOT / "README.md"))
    with pytest.raises(ValueError, match=r"README\.md"):
        sweep_in(tmp_path / "deep" / "sweep", missing)
    assert list(tmp_path.iterdir()) == []


# One writer


def test_of_many_that_begin_at_once_one_sweeps_and_the_others_are_refused(tmp_path: Path, unbroken: Path) -> None:
    codes = [ended(child) for child in [forked(tmp_path / "sweep") for _ in range(4)]]
    assert sorted(codes) == [0, 3, 3, 3]
    assert kept(tmp_path / "sweep") == kept(unbroken)


def test_a_sweep_in_progress_is_refused_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    description = {"question": "staleness", "runs": {"a": {}}, "specs": {}, "code": {}}
    with hold(out, description, resume=False):
        command = [sys.executable, "-c", "from experiments.cli import main; main()", "sweep", "staleness"]
        options = ["--world", "analytic", "--requests", "3", "--resume", "--out", str(out)]
        done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == (f"netkv: {out}: another process is working on this sweep (wait for its end, or end it)\n")


# The same code


def other(name: str, value: str) -> Any:
    return lambda: {**code_identity.code_identity(), name: value}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("source", r"source was \w+ \(commit [\w-]+\), now other \(commit [\w-]+\)"),
        ("numpy", r"numpy was [\d.]+, now other"),
    ],
)
def test_other_code_is_refused_and_the_difference_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    out = tmp_path / "sweep"
    interrupted_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        sweep_in(out, CONDITIONS)
    monkeypatch.undo()
    monkeypatch.setattr(sweep, "code_identity", other(name, "other"))
    with pytest.raises(SpecError, match=f"^{re.escape(str(out))}: was begun with other code, .*: {shown}$"):
        sweep_in(out, CONDITIONS, resume=True)
    assert runs_in(out) == [CONDITIONS[0].name]


def test_the_same_source_at_another_commit_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        sweep_in(tmp_path, CONDITIONS)
    monkeypatch.undo()
    monkeypatch.setattr(sweep, "code_identity", other("commit", "f00d"))
    sweep_in(tmp_path, CONDITIONS, resume=True)
    assert len(runs_in(tmp_path)) == len(CONDITIONS)


def test_a_complete_sweep_may_be_read_again_by_any_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_in(tmp_path, CONDITIONS)
    monkeypatch.setattr(sweep, "code_identity", other("source", "other"))
    assert "6 of 6 runs are there already" in sweep_in(tmp_path, CONDITIONS, resume=True)


def test_a_trace_that_changed_under_the_sweep_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, out = tmp_path / "trace.jsonl", tmp_path / "sweep"
    trace.write_text('{"timestamp": 0, "input_length": 512, "output_length": 2, "hash_ids": [1]}\n')
    made = small_conditions(2, workload__trace=str(trace))
    interrupted_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        sweep_in(out, made)
    trace.write_text(trace.read_text().replace("512", "1024"))
    line = rf"^{re.escape(str(out))}: holds another sweep: traces\.{re.escape(str(trace))} was '\w+', now '\w+'$"
    with pytest.raises(SpecError, match=line):
        sweep_in(out, made, resume=True)


def test_a_policy_of_ones_own_that_changed_under_the_sweep_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, out = tmp_path / "policy_of_mine.py", tmp_path / "sweep"
    select = "def select(self, request, candidates, view): return candidates.best(candidates.tier)"
    module.write_text(f"class Mine:\n    {select}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    made = [Condition(f"seed{seed}", spec(policy="policy_of_mine:Mine", seed=seed), {}) for seed in (0, 1)]
    interrupted_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        sweep_in(out, made)
    module.write_text(module.read_text().replace("candidates.tier", "-candidates.tier"))
    changed = r"was begun with another module, .*: policies\.policy_of_mine:Mine was '\w+', now '\w+'$"
    with pytest.raises(SpecError, match=f"^{re.escape(str(out))}: {changed}"):
        sweep_in(out, made, resume=True)


def interrupted_after(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files, written = sweep.write_files, []

    def write(out: Path, files: Any) -> None:
        if len(written) == runs:
            raise KeyboardInterrupt
        written.append(out)
        write_files(out, files)

    monkeypatch.setattr(sweep, "write_files", write)


def test_the_digest_is_of_every_module_that_makes_a_run() -> None:
    """Nothing that is in the digest imports a module that is not."""
    files = {path.relative_to(ROOT).as_posix() for path in code_identity.source_files()}
    assert {"experiments/running/world_runner.py", "scheduler/policies/netkv_full.py", "serving/outcome.py"} <= files
    for file in files:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("experiments."):
                assert node.module.replace(".", "/").startswith(code_identity.PACKAGES), f"{file}: {node.module}"
    assert len(files) > 80


def test_the_description_is_kept_word_for_word(tmp_path: Path) -> None:
    sweep_in(tmp_path, CONDITIONS[:3])
    before = (tmp_path / DESCRIPTION).read_bytes()
    sweep_in(tmp_path, CONDITIONS[:3], resume=True)
    assert (tmp_path / DESCRIPTION).read_bytes() == before
