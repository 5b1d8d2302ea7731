"""`netkv sweep`: many runs of one question, a table and a figure."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from experiments.figures import draw_staleness
from experiments.spec import SpecError
from experiments.staleness import (
    POLICIES,
    PROFILES,
    QUESTION,
    staleness_conditions,
    staleness_results,
    staleness_table,
    write_results,
)
from experiments.sweep import read_sweep, run_sweep
from experiments.verbs.options import AsJson, Congestion, Refresh, Requests, Seed, Setting, Trace, changes_of

WORLDS = {"emulated": ("emulated",), "analytic": ("analytic",), "both": ("emulated", "analytic")}


def sweep(
    question: Annotated[str, typer.Argument(metavar="staleness", help="What is varied.")],
    world: Annotated[str, typer.Option(metavar="emulated|analytic|both", help="Which world replays it.")] = "emulated",
    profile: Annotated[str, typer.Option(metavar="quick|full", help="Minutes, or what a paper would print.")] = "quick",
    policies: Annotated[str, typer.Option(metavar="A,B", help="Policies to compare.")] = ",".join(POLICIES),
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The sweep's folder (default: a new one).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the sweep in --out.")] = False,
    seed: Seed = None,
    trace: Trace = None,
    requests: Requests = None,
    refresh: Refresh = None,
    congestion: Congestion = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Run a sweep and end with a table and a figure.

    `staleness`: how the gain of NetKV-Full moves as its network view gets older.
    """
    if question != QUESTION:
        raise SpecError(f"sweep: {question!r} is not one of {QUESTION}")
    changes = changes_of(
        settings=settings, trace=trace, requests=requests, refresh=refresh, congestion=congestion, seed=seed
    )
    conditions = staleness_conditions(
        PROFILES[_one_of("profile", profile, PROFILES)],
        [name.strip() for name in policies.split(",") if name.strip()],
        WORLDS[_one_of("world", world, WORLDS)],
        changes,
    )
    if not conditions:
        raise SpecError("policies: none was named")
    place = out or Path("results") / f"{question}-{datetime.now():%Y%m%d-%H%M%S}"
    console = Console(stderr=as_json)
    run_sweep(question, conditions, place, resume=resume, console=console)
    results = staleness_results(read_sweep(place))
    table_file = write_results(place, results)
    spec = conditions[0].spec
    note = (
        f"{len(conditions)} runs; {spec.fabric.gpus} GPUs, {spec.model.name}; workload"
        f" {spec.workload.trace or spec.workload.profile}; congestion {spec.congestion.kind}."
        " Band: 95 % bootstrap interval."
    )
    figures = draw_staleness(results, place, note)
    if as_json:
        typer.echo(json.dumps(_report(place, results.to_dict("records"), figures), indent=1, default=str))
        return
    console.print(staleness_table(results))
    console.print(
        f"figure:  {figures[0]} (and .svg)\ntable:   {table_file}\nruns:    {place / 'runs'}",
        highlight=False,
        soft_wrap=True,
    )


def _one_of(name: str, given: str, known: dict[str, Any]) -> str:
    if given not in known:
        raise SpecError(f"{name}: {given!r} is not one of {', '.join(known)}")
    return given


def _report(place: Path, rows: list[Any], figures: list[Path]) -> dict[str, Any]:
    clean = [{key: None if value != value else value for key, value in row.items()} for row in rows]
    return {"out": str(place), "figures": [str(figure) for figure in figures], "results": clean}
