"""`netkv sweep`: many runs of one question, a table and a figure."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console

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
from experiments.store import StoreError
from experiments.sweep import RUNS, Condition, read_sweep, run_sweep
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

    `staleness`: how the gain of NetKV-Full moves as its network view gets older. Exit code 1 when a run had to be left
    out because its verdict is `invalid`.
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
    seen = read_sweep(place)
    left_out = sorted(seen.loc[seen["verdict"] == "invalid", "run"].unique())
    results = staleness_results(seen)
    if results.empty:
        raise StoreError(f"{place}: every run is invalid: see verdict_reasons in {RUNS}/{left_out[0]}/manifest.json")
    table_file = write_results(place, results)
    from experiments.figures import draw_staleness  # Matplotlib takes longer to load than all else

    figures = draw_staleness(results, place, _note(conditions))
    if as_json:
        typer.echo(json.dumps(_report(place, results, figures, left_out), indent=1, default=str))
    else:
        console.print(staleness_table(results))
    where = f"figure:  {figures[0]} (and .svg)\ntable:   {table_file}\nruns:    {place / RUNS}"
    console.print(where, highlight=False, soft_wrap=True)
    if left_out:
        console.print(f"left out as invalid: {', '.join(left_out)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def _note(conditions: list[Condition]) -> str:
    spec = conditions[0].spec
    return (
        f"{len(conditions)} runs; {spec.fabric.gpus} GPUs, {spec.model.name}; workload"
        f" {spec.workload.trace or spec.workload.profile}; congestion {spec.congestion.kind}."
        " Band: 95 % bootstrap interval."
    )


def _one_of(name: str, given: str, known: dict[str, Any]) -> str:
    if given not in known:
        raise SpecError(f"{name}: {given!r} is not one of {', '.join(known)}")
    return given


def _report(place: Path, results: pd.DataFrame, figures: list[Path], left_out: list[str]) -> dict[str, Any]:
    rows = results.astype(object).where(results.notna(), None).to_dict("records")
    return {"out": str(place), "figures": [str(figure) for figure in figures], "left_out": left_out, "results": rows}
