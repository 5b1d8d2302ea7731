"""`netkv sweep`: many runs of one question, a table and a figure."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console

from experiments.conclusions import map_sentences, sentences
from experiments.spec import SpecError
from experiments.staleness import (
    POLICIES,
    PROFILES,
    QUESTION,
    staleness_conditions,
    staleness_results,
    staleness_table,
    workload_name,
    write_results,
    written,
)
from experiments.staleness_map import PROFILES as MAP_PROFILES
from experiments.staleness_map import QUESTION as MAP_QUESTION
from experiments.staleness_map import map_cells, map_conditions, map_table
from experiments.store import StoreError
from experiments.sweep import RUNS, Condition, read_sweep, run_sweep
from experiments.verbs.options import AsJson, Congestion, Refresh, Requests, Seed, Setting, Trace, changes_of

CONCLUSIONS = "conclusions.txt"
WORLDS = {"emulated": ("emulated",), "analytic": ("analytic",), "both": ("emulated", "analytic")}


def sweep(
    question: Annotated[str, typer.Argument(metavar="staleness", help="What is varied.")],
    world: Annotated[str, typer.Option(metavar="emulated|analytic|both", help="Which world replays it.")] = "emulated",
    profile: Annotated[str, typer.Option(metavar="quick|full", help="Minutes, or what a paper would print.")] = "quick",
    policies: Annotated[str, typer.Option(metavar="A,B", help="Policies to compare.")] = ",".join(POLICIES),
    as_map: Annotated[
        bool, typer.Option("--map", help="NetKV-Full's gain over NetKV-Static by refresh interval and congestion.")
    ] = False,
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

    `staleness`: how the gain of NetKV-Full moves as its network view gets older; with `--map`, also as the congestion
    moves faster or slower. Ends with what it says of the paper's claims, in words. Exit code 1 when a run had to be
    left out because its verdict is `invalid`.
    """
    if question != QUESTION:
        raise SpecError(f"sweep: {question!r} is not one of {QUESTION}")
    changes = changes_of(
        settings=settings, trace=trace, requests=requests, refresh=refresh, congestion=congestion, seed=seed
    )
    worlds = WORLDS[_one_of("world", world, WORLDS)]
    if as_map:
        conditions = map_conditions(MAP_PROFILES[_one_of("profile", profile, MAP_PROFILES)], worlds, changes)
    else:
        named = [name.strip() for name in policies.split(",") if name.strip()]
        conditions = staleness_conditions(PROFILES[_one_of("profile", profile, PROFILES)], named, worlds, changes)
    if not conditions:
        raise SpecError("policies: none was named")
    place = out or Path("results") / f"{question}-{datetime.now():%Y%m%d-%H%M%S}"
    console = Console(stderr=as_json)
    run_sweep(MAP_QUESTION if as_map else question, conditions, place, resume=resume, console=console)
    seen = read_sweep(place)
    left_out = sorted(seen.loc[seen["verdict"] == "invalid", "run"].unique())
    results = map_cells(seen) if as_map else staleness_results(seen)
    if results.empty:
        raise StoreError(f"{place}: every run is invalid: see verdict_reasons in {RUNS}/{left_out[0]}/manifest.json")
    table_file = write_results(place, results, MAP_QUESTION if as_map else question)
    figures = _draw(seen, results, place, _note(conditions, left_out), as_map)
    said = map_sentences(results) if as_map else sentences(results)
    (place / CONCLUSIONS).write_text("\n".join(said) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(_report(place, results, figures, left_out, said), indent=1, default=str))
    else:
        console.print(map_table(results) if as_map else staleness_table(results))
        for sentence in said:
            console.print(f"- {sentence}", markup=False, highlight=False, soft_wrap=True)
    where = f"figure:  {figures[0]} (and .svg)\ntable:   {table_file}\nruns:    {place / RUNS}"
    console.print(where, highlight=False, soft_wrap=True)
    if left_out:
        console.print(f"left out as invalid: {', '.join(left_out)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def _draw(seen: pd.DataFrame, results: pd.DataFrame, place: Path, note: str, as_map: bool) -> list[Path]:
    # Matplotlib takes longer to load than all else
    from experiments.staleness_figures import draw_map, draw_prediction_error

    if as_map:
        return draw_map(results, place, note)
    from experiments.figures import draw_staleness

    return draw_staleness(results, place, note) + draw_prediction_error(seen, place, note)


def _note(conditions: list[Condition], left_out: list[str]) -> str:
    spec = conditions[0].spec
    workloads = list(dict.fromkeys(workload_name(condition.spec) for condition in conditions))
    without = f" without {len(left_out)} invalid ones" if left_out else ""
    return (
        f"{len(conditions)} runs{without}; {spec.fabric.gpus} GPUs, {spec.model.name}; workload {', '.join(workloads)};"
        f" congestion {spec.congestion.kind}."
        " Bands: 95 % bootstrap intervals (TTFT: of the paired change since the shortest interval)."
    )


def _one_of(name: str, given: str, known: dict[str, Any]) -> str:
    if given not in known:
        raise SpecError(f"{name}: {given!r} is not one of {', '.join(known)}")
    return given


def _report(
    place: Path, results: pd.DataFrame, figures: list[Path], left_out: list[str], said: list[str]
) -> dict[str, Any]:
    rows = results.astype(object).where(results.notna(), None).to_dict("records")
    for row in rows:
        if row["refresh_s"] is not None:
            row["refresh_s"] = written(row["refresh_s"])
    return {
        "out": str(place),
        "figures": [str(figure) for figure in figures],
        "left_out": left_out,
        "results": rows,
        "conclusions": said,
    }
