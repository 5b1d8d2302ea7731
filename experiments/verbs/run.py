"""`netkv run`: one run of one specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.spec import read_spec
from experiments.store import check_free, write_run
from experiments.verbs.options import AsJson, Congestion, Refresh, Requests, Seed, Setting, Trace, changes_of
from experiments.worlds import open_world, verdict_of
from scheduler.record import POLICY_ERROR
from workloads import load_requests


def run(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="[SPEC.yaml]", help="Specification (default: ours).")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder; must not exist yet.")] = Path(
        "results/run"
    ),
    world: Annotated[str | None, typer.Option(metavar="emulated|analytic", help="Which world replays it.")] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="NAME", help="A policy's name, or your own as module:Class.")
    ] = None,
    seed: Seed = None,
    trace: Trace = None,
    requests: Requests = None,
    refresh: Refresh = None,
    congestion: Congestion = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Replay a workload under one policy and write the run's folder.

    Exit code 0 when every request was dealt with and the run can be trusted, 1 when its verdict is `invalid`, 2 for bad
    input.
    """
    changes = changes_of(
        settings=settings,
        trace=trace,
        requests=requests,
        refresh=refresh,
        congestion=congestion,
        seed=seed,
        world=world,
        policy=policy,
    )
    spec = read_spec(spec_file, changes)
    check_free(out)
    wanted = len(load_requests(spec.scenario))
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(), console=console, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("starting", total=wanted)
        with open_world(spec, lambda text: progress.update(task, description=text)) as opened:
            progress.update(task, description=f"{spec.policy} on the {spec.world} world")
            outcome = opened.run(spec.scenario, lambda done: progress.update(task, completed=done))
    verdict = verdict_of(spec, outcome)
    summary = write_run(out, spec, outcome, verdict)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **verdict, "summary": summary}, indent=1))
    else:
        typer.echo(
            f"{summary['completed']} completed, {summary['failed']} failed, {summary['rejected']} rejected; mean TTFT"
            f" {_ms(summary['mean_ttft_ms'])}, p99 {_ms(summary['p99_ttft_ms'])}, KV transfer"
            f" {_ms(summary['kv_transfer_ms'])}; {verdict['verdict']}"
        )
        for reason in verdict["reasons"]:
            typer.echo(f"  {reason}")
        typer.echo(f"results: {out}")
    if POLICY_ERROR in outcome.evidence:
        console.print(f"netkv: {verdict['reasons'][0]}", markup=False, highlight=False, soft_wrap=True)
    if verdict["verdict"] == "invalid":
        raise typer.Exit(1)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
