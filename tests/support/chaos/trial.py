"""One run of a plan, in a folder that is checked and thrown away: what was wrong with it, in lines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments.checking import check_run
from experiments.running import RunSpec, make_spec, one_line
from experiments.running.run_process import FinishedRun
from experiments.running.store import write_files
from experiments.running.world_runner import WorldRunner
from tests.support.chaos.plans import Plan
from tests.support.fuzzing.target import HangError, within

DEADLINE_S = {"analytic": 60.0, "emulated": 300.0}
"""A run takes a fifth of a second, or half a minute: beyond this it hangs, on a busy machine too."""

MOST_LINES = 5


class Runner(Protocol):
    """What makes a run of a specification."""

    def run(self, spec: RunSpec) -> FinishedRun: ...


@dataclass(frozen=True)
class Trial:
    """`faults`: how many began; `verdict`: of the run; `wrong`: a line a violation, or the error or hang."""

    faults: int
    verdict: str
    wrong: tuple[str, ...]

    @property
    def sort(self) -> str:
        """What kind of wrong it is: the invariant or the class of the error, so that a smaller plan is wrong alike."""
        return self.wrong[0].split(": ")[0] if self.wrong else ""


@contextmanager
def chaos_runner() -> Iterator[Runner]:
    """A runner that keeps a world up for the runs that can share it."""
    with WorldRunner() as runner:
        yield runner


def try_plan(plan: Plan, runner: Runner) -> Trial:
    """Run a plan and check its history; errors and hangs of the run are told like violations."""
    try:
        with within(DEADLINE_S[plan["world"]]):
            made = runner.run(make_spec({}, plan))
            return _checked(made)
    except HangError:
        return Trial(0, "", (f"hang: not done after {DEADLINE_S[plan['world']]:g} s",))
    except Exception as problem:
        return Trial(0, "", (f"{type(problem).__name__}: {one_line(str(problem))[:300]}",))


def _checked(made: FinishedRun) -> Trial:
    with tempfile.TemporaryDirectory(prefix="netkv-chaos-") as folder:
        run = Path(folder) / "run"
        write_files(run, made.files)
        found = check_run(run)
    wrong = [f"{one.invariant}: {one.subject}: found {one.found}, expected {one.expected}" for one in found]
    more = [f"and {len(wrong) - MOST_LINES} more"] if len(wrong) > MOST_LINES else []
    return Trial(_rows(made.files), str(made.verdict["verdict"]), (*wrong[:MOST_LINES], *more))


def _rows(files: Mapping[str, bytes]) -> int:
    """The faults that began, by the manifest."""
    manifest: dict[str, Any] = json.loads(files["manifest.json"])
    return len(manifest["faults"])
