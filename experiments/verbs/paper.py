"""`netkv paper`: fit what the paper does not say, then run what it published, cell by cell."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.verbs.options import (
    AsJson,
    Dask,
    Jobs,
    ProfileName,
    Resume,
    Seed,
    Setting,
    SweepOut,
    Worlds,
    changes_of,
    check_jobs,
    worlds_of,
)

if TYPE_CHECKING:
    from rich.table import Table

    from experiments.reproducing import CellBeside

FIT_FILE = "fit.json"
CELLS_FILE = "paper.csv"
CONCLUSIONS = "conclusions.txt"
DIGITS = {"ms": 0, "share": 3}
MOST_LISTED = 40
"""Cells that are listed one by one; the file has all."""

paper = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@paper.command()
def fit(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The result's folder; must not exist yet.")] = Path(
        "results/paper-fit"
    ),
    requests: Annotated[int, typer.Option(min=20, metavar="N", help="Requests a run.")] = 2000,
    seeds: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Seeds a policy.")] = 3,
    workloads: Annotated[
        str, typer.Option(metavar="A,B", help="Workloads to fit; rag, the first, is what the others rest on.")
    ] = "rag,chatbot,long_context",
    as_json: AsJson = False,
) -> None:
    """Fit what the paper does not say, to its cells of round-robin and CLA* at 100 % load alone (analytic world).

    The folder holds `fit.json`: values with their standard errors, bounds, the cells at the start and as fitted, the
    seeds, and the directions that those cells hardly know. What is shipped was made by this command.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from experiments.published import WORKLOADS as KNOWN
    from experiments.published import published_fit
    from experiments.reproducing import declared_cells, fit_workload, taken_over_from_rag
    from experiments.running import SpecError, check_free, git_commit, new_folder, versions, write_json

    named = list(dict.fromkeys(name.strip() for name in workloads.split(",")))
    for name in named:
        if name not in KNOWN:
            raise SpecError(f"--workloads: {name!r} is not one of {', '.join(KNOWN)}")
    check_free(out)
    found: dict[str, Any] = {}
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}  {task.completed} evaluations"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name in sorted(named, key=KNOWN.index):
            task = progress.add_task(name, total=None)
            rag = found.get("rag", published_fit()["workloads"]["rag"])["values"]
            given = {} if name == "rag" else taken_over_from_rag(rag)
            found[name] = fit_workload(name, given, requests, seeds, partial(progress.advance, task))
    report = {
        "made_with": f"netkv paper fit --requests {requests} --seeds {seeds}",
        "cells": [number for name in KNOWN for number in declared_cells(name)],
        "workloads": {**{name: published_fit()["workloads"][name] for name in KNOWN}, **found},
        "versions": versions(),
        "git_commit": git_commit(),
    }
    with new_folder(out) as folder:
        write_json(folder / FIT_FILE, report)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "workloads": found}))
        return
    for name, result in found.items():
        for parameter, error in result["errors"].items():
            typer.echo(f"{name:13} {parameter:28} {result['values'][parameter]:g} +/- {error:g}")
        for cell in result["cells"]:
            typer.echo(
                f"{name:13} {cell['table']:9} {cell['policy']:12} {cell['quantity']:18} paper {cell['published']:g},"
                f" fitted {cell['fitted']:g}"
            )
        for direction in (one for one in result["directions"] if one["flat"]):
            parts = ", ".join(f"{part:+.2f} {which}" for which, part in direction["of"].items() if abs(part) >= 0.1)
            typer.echo(f"{name:13} hardly known: {parts}")
    typer.echo(f"fit: {out / FIT_FILE}")


@paper.command()
def reproduce(
    cells: Annotated[
        str | None, typer.Option(metavar="table2,figure1", help="Tables and figures (default: all).")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only the runs whose name holds TEXT, e.g. gpus128.")
    ] = None,
    world: Worlds = "analytic",
    profile: ProfileName = "quick",
    out: SweepOut = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    dask: Dask = None,
    seed: Seed = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Predict every published cell in the set-up that `netkv paper fit` found, and say which come out.

    A cell is `inside` where the paper's number lies in our 95 % interval, widened by its own; `cannot_tell` where ours
    is too wide. Cells that the set-up was fitted to are never counted. The emulated world runs a part: see
    docs/explanation/paper.md.

    Exit code 1 when a run had to be left out because its verdict is `invalid`.
    """
    from rich.console import Console

    from experiments.drawing import draw_chart
    from experiments.reproducing import (
        COLUMNS,
        NAME,
        PROFILES,
        TABLES,
        answers,
        cells_beside,
        cells_frame,
        paper_charts,
        planned_runs,
        short,
    )
    from experiments.running import RUNS, SpecError, new_files, read_sweep, run_sweep, strict

    if profile not in PROFILES:
        raise SpecError(f"profile: {profile!r} is not one of {', '.join(PROFILES)}")
    check_jobs(jobs, dask)
    worlds = worlds_of(world)
    by_short = {short(table): table for table in TABLES}
    asked = [name.strip().lower() for name in cells.split(",")] if cells else list(by_short)
    tables = [by_short.get(name, name) for name in asked]
    planned = planned_runs(PROFILES[profile], worlds, tables, changes_of(settings=settings, seed=seed))
    if not planned:
        remedy = "leave --world out" if profile == "full" else "try --profile full, or leave --world out"
        raise SpecError(f"cells: the {world} world runs none of these in the {profile} profile ({remedy})")
    wanted = [run for run in planned if (only or "") in run.name]
    if not wanted:
        raise SpecError(f"only: no run's name holds {only!r}; the first of {len(planned)} is {planned[0].name}")
    place = out or Path("results") / f"{NAME}-{datetime.now():%Y%m%d-%H%M%S}"
    console = Console(stderr=as_json)
    run_sweep(NAME, wanted, place, resume=resume, console=console, jobs=jobs, dask=dask)
    requests = read_sweep(place, COLUMNS)
    left_out = sorted(requests.loc[requests["verdict"] == "invalid", "run"].unique())
    beside = cells_beside(requests, tuple(tables))
    frame = cells_frame(beside)
    note = f"{requests['run'].nunique()} runs, {requests['seed'].nunique()} seeds."
    said = answers(beside, requests)
    with new_files(place) as partial:
        frame.to_csv(partial / CELLS_FILE, index=False)
        charts = paper_charts(frame) if len(frame) else []
        drawn = [path for chart in charts for path in draw_chart(chart, note, partial)]
        (partial / CONCLUSIONS).write_text("\n".join(said) + "\n", encoding="utf-8")
    figures = [place / path.name for path in drawn]
    if as_json:
        report = {
            "out": str(place), "left_out": left_out, "cells": strict(frame.to_dict("records")), "conclusions": said,
            "figures": [str(figure) for figure in figures],
        }  # fmt: skip
        typer.echo(json.dumps(report, indent=1, default=str))
    else:
        console.print(_totals(beside))
        if len(beside) <= MOST_LISTED:
            console.print(_listing(beside))
        for sentence in said:
            console.print(f"- {sentence}", markup=False, highlight=False, soft_wrap=True)
    first = f"figures: {figures[0]} and {len(figures) - 1} more\n" if figures else ""
    console.print(f"{first}cells:   {place / CELLS_FILE}\nruns:    {place / RUNS}", highlight=False, soft_wrap=True)
    if left_out:
        console.print(f"left out as invalid: {', '.join(left_out)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)


@paper.command()
def packets(
    emulated: Annotated[Path, typer.Argument(metavar="EMULATED", help="A reproduction's folder, emulated runs.")],
    analytic: Annotated[Path, typer.Argument(metavar="ANALYTIC", help="The same of the analytic world, profile full.")],
    own_decisions: Annotated[
        bool, typer.Option("--own-decisions", help="The fluid model decides for itself: wider, and less is assumed.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write all cells as a table.")] = None,
) -> None:
    """Tell the paper's cells in emulation by what packets change of the fluid model's answer.

    Means, shares and changes between policies: the fluid model's over thousands of requests, corrected by how packets
    differ from it on the hundreds that were emulated. Far narrower than what the emulated runs say by themselves.
    The fluid model is given the decisions of the emulated runs, which takes for granted that those are as good as its
    own; --own-decisions does not.
    """
    from rich.console import Console

    from experiments.comparing import replayed, twins_of
    from experiments.reproducing import COLUMNS, cells_by_twins, cells_frame
    from experiments.running import StoreError, check_new_file, read_sweep, write_new_file

    if out is not None:
        check_new_file(out)
    requests, fluid = read_sweep(emulated, COLUMNS), read_sweep(analytic, COLUMNS)
    for place, frame, world in ((emulated, requests, "emulated"), (analytic, fluid, "analytic")):
        if "condition" not in frame:
            raise StoreError(f"{place}: is a sweep, but none of `netkv paper reproduce`")
        if others := set(frame["world"]) - {world}:
            raise StoreError(f"{place}: has runs of the {', '.join(others)} world; those of the {world} one are wanted")
    beside = cells_by_twins(requests, (twins_of if own_decisions else replayed)(emulated, requests), fluid)
    if not beside:
        raise StoreError(f"{emulated}: none of its cells are among those of {analytic}")
    console = Console()
    console.print(_totals(beside))
    console.print(_listing(beside))
    if out is not None:
        write_new_file(out, cells_frame(beside).to_csv(index=False))


def _totals(beside: list[CellBeside]) -> Table:
    from rich import box
    from rich.table import Table

    from experiments.reproducing import totals

    verdicts = ("inside", "outside", "cannot_tell", "fitted")
    table = Table(
        title="The paper's cells, ours and its own", box=box.SIMPLE, pad_edge=False, padding=0, min_width=64,
        caption="inside: the paper's number lies in our 95 % interval, widened by its own; fitted: never counted",
    )  # fmt: skip
    for heading in ("cells", "world", *(verdict.replace("_", " ") for verdict in verdicts)):
        table.add_column(heading, justify="left" if heading in ("cells", "world") else "right", no_wrap=True)
    for world in dict.fromkeys(one.world for one in beside):
        of_world = [one for one in beside if one.world == world]
        for name in (*dict.fromkeys(one.cell.table for one in of_world), "all"):
            count = totals([one for one in of_world if name in (one.cell.table, "all")])
            table.add_row(name, world, *(str(count[verdict]) for verdict in verdicts))
        table.add_section()
    return table


def _listing(beside: list[CellBeside]) -> Table:
    from rich import box
    from rich.table import Table

    from experiments.reproducing import PaperCondition

    table = Table(box=box.SIMPLE, pad_edge=False, padding=0, min_width=64)
    for heading in ("cell", "policy", "quantity"):
        table.add_column(heading, overflow="fold")
    for heading in ("ours", "paper", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in beside:
        at = PaperCondition.of_cell(one.cell, one.cell.policy)
        aged = f", {at.refresh_s:g} s" if at.refresh_s and one.cell.table == "Figure 2" else ""
        digits = 2 if "tbt" in one.cell.quantity else DIGITS.get(one.cell.unit, 1)
        ours = f"{one.ours.value:.{digits}f} ±{(one.ours.high - one.ours.low) / 2:.{digits}f}"
        what = one.cell.quantity.replace("_", " ")
        table.add_row(
            at.name + aged, one.cell.policy, what, ours, f"{one.cell.value:g}", one.standing.replace("_", " ")
        )
    return table
