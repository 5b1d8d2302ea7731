"""Everything that it takes to run a folder's runs again: what they share as YAML, what differs as commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from experiments.report.collect import CollectedSweep, Run

SPEC_FILE = "spec.yaml"


@dataclass(frozen=True)
class Again:
    """How to run a sweep again. `spec`: the YAML that its runs share; `commands`: one a run; `differs`: the fields that
    vary, dotted."""

    name: str
    question: str
    spec: str
    commands: Sequence[str]
    differs: Sequence[str]


def again(sweep: CollectedSweep) -> Again:
    """The common specification of the runs of a sweep, and a command a run that sets what is its own."""
    specs = [dict(_flat(run.spec.model_dump(mode="json"))) for run in sweep.runs]
    names = list(dict.fromkeys(name for spec in specs for name in spec))
    differs = [name for name in names if len({json.dumps(spec.get(name)) for spec in specs}) > 1]
    shared: dict[str, Any] = {}
    for name in names:
        if name not in differs:
            _put(shared, name.split("."), specs[0][name])
    commands = [_command(run, spec, differs) for run, spec in zip(sweep.runs, specs, strict=True)]
    return Again(sweep.name, sweep.question, yaml.safe_dump(shared, sort_keys=False), commands, differs)


def origins(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The distinct origins of the runs: commit, machine and versions, with how many runs are of each."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        origin = {name: run.manifest.get(name) for name in ("git_commit", "machine", "versions")}
        key = json.dumps(origin, sort_keys=True, default=str)
        found.setdefault(key, {**origin, "runs": 0})["runs"] += 1
    return list(found.values())


def _command(run: Run, spec: Mapping[str, Any], differs: Sequence[str]) -> str:
    settings = [f"--set {shlex.quote(f'{name}={_yaml(spec[name])}')}" for name in differs if name in spec]
    return " ".join(["netkv run", SPEC_FILE, *settings, "--out", shlex.quote(f"again/{run.name}")])


def _yaml(value: Any) -> str:
    """A value in one line of YAML, as `--set` reads it."""
    return value if isinstance(value, str) and yaml.safe_load(value) == value else json.dumps(value)


def _flat(fields: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        dotted = f"{place}{name}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{dotted}.")
        else:
            yield dotted, value


def _put(fields: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        fields = fields.setdefault(step, {})
    fields[path[-1]] = value
