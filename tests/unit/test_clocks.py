"""Durations come from the monotonic clock: a step of the wall clock changes no result and no duration."""

from __future__ import annotations

import ast
import itertools
import json
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.small_sweeps import kept, small_conditions, sweep_in

WALL_CLOCK = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}
FOR_PEOPLE = {
    "experiments/verbs/sweep.py": "the name of a new folder",
    "experiments/verbs/paper.py": "the name of a new folder",
    "experiments/verbs/gains.py": "the name of a new folder",
    "experiments/exporting/recorded_telemetry.py": "when a recorded run is said to have been, for who reads dates",
    "examples/publish_cost.py": "the date of a collector's sample, which has no other clock",
    "controller/telemetry.py": "the date in a telemetry document; its age is the difference of monotonic times",
}
"""Who may ask what time it is, and for what. Nobody else does, so no duration can come of it."""

TWO_HOURS_S = 7200.0


def source_files() -> list[Path]:
    tests_and_tools = {"tests", ".venv", "build"}
    folders = [place for place in ROOT.iterdir() if place.is_dir() and place.name not in tests_and_tools]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def wall_clocks(path: Path) -> list[str]:
    """The places of a module that read the wall clock, `time.time` and the like, also when it is only passed on."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if (owner, node.attr) in WALL_CLOCK:
                found.append(f"{node.lineno}: {owner}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"{node.lineno}: time.{one.name}" for one in node.names if ("time", one.name) in WALL_CLOCK]
    return found


def test_only_those_who_write_for_people_read_the_wall_clock() -> None:
    found = {path.relative_to(ROOT).as_posix(): wall_clocks(path) for path in source_files()}
    assert len(found) > 200
    assert {name for name, places in found.items() if places} == set(FOR_PEOPLE)


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("import time; a = time.time() - b", True),
        ("import time; clock = time.time", True),
        ("from time import time", True),
        ("import datetime; a = datetime.datetime.now() - b", True),
        ("import time; a = time.monotonic()", False),
    ],
)
def test_a_wall_clock_is_seen(tmp_path: Path, line: str, seen: bool) -> None:
    place = tmp_path / "module.py"
    place.write_text(line)
    assert bool(wall_clocks(place)) == seen


@pytest.mark.parametrize("step_s", [TWO_HOURS_S, -TWO_HOURS_S], ids=["forward", "back"])
def test_a_step_of_the_wall_clock_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    conditions = small_conditions(2)
    sweep_in(tmp_path / "steady", conditions)
    now_s, steps = time.time(), itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: now_s + step_s * next(steps))
        patch.setattr("time.time_ns", lambda: int((now_s + step_s * next(steps)) * 1e9))
        said = sweep_in(tmp_path / "stepped", conditions)
    assert kept(tmp_path / "stepped") == kept(tmp_path / "steady")
    took_s = [float(line.split()[2]) for line in said.splitlines()[:2]]
    spent = json.loads((tmp_path / "stepped" / "timing.json").read_text())
    durations_s = [*took_s, *(value for name, value in spent.items() if name.endswith("_s"))]
    assert all(0 <= value < TWO_HOURS_S / 2 for value in durations_s)
    for measured in (tmp_path / "stepped").glob("runs/*/measured.json"):
        assert 0 < json.loads(measured.read_text())["decision_us"]["p50"] < TWO_HOURS_S * 1e6 / 2
