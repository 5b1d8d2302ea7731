"""`netkv reference`: build the reference results, and rank policies by them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.verbs import choices
from experiments.verbs.options import AsJson, Dask, Jobs, ProfileName, Resume, check_jobs

if TYPE_CHECKING:
    from experiments.reference import Agreement, Board

PAGE = "leaderboard.md"

reference = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@reference.command()
def build(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The data set's folder (runs are kept in it).")] = Path(
        "results/reference"
    ),
    questions: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Questions (default: all).", autocompletion=choices.questions),
    ] = None,
    profile: ProfileName = "quick",
    emulated_seeds: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Seeds of the emulated leaderboard, an hour each."),
    ] = 0,
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="SWEEP", help="Another finished sweep to add, an emulated one for example."),
    ] = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    dask: Dask = None,
) -> None:
    """Run the analytic sweeps behind the figures of docs and pack their requests, with a data card.

    With --emulated-seeds the leaderboard's runs are emulated as well. `DIR/sweeps` holds the sweeps;
    `DIR/requests.parquet`, `DIR/runs.parquet` and `DIR/README.md` are the reference. Whatever ends the command,
    --resume goes on where it was.
    """
    from rich.console import Console

    from experiments.reference import SWEEPS, data_card, pack, planned_emulated, planned_sweep
    from experiments.running import SpecError, StoreError, check_writable, make_folders, read_description, run_sweep
    from testbed import require_sandbox

    check_jobs(jobs, dask)
    named = list(SWEEPS) if questions is None else [name.strip() for name in questions.split(",") if name.strip()]
    planned = {name: planned_sweep(name, profile) for name in dict.fromkeys(named)}
    made_with = f"netkv reference build --profile {profile}"
    made_with += "" if questions is None else f" --questions {questions}"
    commands = {(name, "analytic"): command for name, (_, command) in planned.items()}
    sweeps = [(name, name, conditions) for name, (conditions, _) in planned.items()]
    if emulated_seeds:
        made_with += f" --emulated-seeds {emulated_seeds}"
        commands["regimes", "emulated"] = made_with
        sweeps.append(("regimes", "regimes-emulated", planned_emulated(emulated_seeds)))
    for sweep in others or []:
        read_description(sweep)
    if not sweeps and not others:
        raise SpecError("--questions: none was named, and no sweep with --with")
    check_writable(out, out)
    if emulated_seeds:  # or it would be told after the minutes of the analytic sweeps
        require_sandbox()
    if out.exists() and any(out.iterdir()) and not resume:
        raise StoreError(f"{out}: is there already (add --resume to continue it, or choose another --out)")
    make_folders(out)
    console = Console(stderr=True)
    folders = []
    for question, place, conditions in sweeps:
        console.print(f"{place}: {len(conditions)} runs", highlight=False)
        folder = out / "sweeps" / place
        run_sweep(question, conditions, folder, resume=resume, console=console, jobs=jobs, dask=dask)
        folders.append(folder)
    made_with += " --with SWEEP" * len(others or [])
    data = pack([*folders, *(others or [])], out, lambda found: data_card(found, commands, made_with))
    typer.echo(f"reference: {out}: {len(data.runs):,} runs, {len(data.rows):,} requests")


@reference.command()
def leaderboard(
    policies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="New policies to enter, `module:Class` (default: none, the board of the reference).",
            autocompletion=choices.policy_lists,
        ),
    ] = None,
    place: Annotated[
        str, typer.Option("--reference", metavar="DIR", help="Reference results (default: the repository's).")
    ] = "reference",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the page, its figure and new runs (default: none).")
    ] = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    dask: Dask = None,
    as_json: AsJson = False,
) -> None:
    """Rank every policy of the reference by its mean TTFT over all regimes, with intervals; enter new ones.

    A new policy decides the reference's own runs once more, in the analytic world. Before it is ranked, round-robin's
    runs of one seed are made as well: exit code 1 where they do not come out as the reference has them, because then
    the board would compare two versions of the code; and where a run is invalid, because its policy broke.
    """
    from experiments.running import check_writable

    if out is not None:
        check_writable(out, out)  # before the library of figures is loaded
    from rich.console import Console

    from experiments.drawing import draw_chart
    from experiments.reference import (
        agreement_text,
        board_chart,
        board_page,
        board_requests,
        board_text,
        compare_sweep,
        entry_conditions,
        make_board,
        open_reference,
        with_entries,
    )
    from experiments.running import SpecError, make_folders, new_files, read_sweep, run_sweep, strict

    check_jobs(jobs, dask)
    console = Console(stderr=as_json)
    known = open_reference(place)
    requests = board_requests(known)
    entered = [name.strip() for name in policies.split(",") if name.strip()] if policies else []
    agreement: Agreement | None = None
    invalid: list[str] = []
    if entered:
        if out is None:
            raise SpecError("--out: a folder for the new runs is needed with --policies")
        conditions = entry_conditions(known, entered)
        run_sweep("regimes", conditions, out, resume=resume, console=Console(stderr=True), jobs=jobs, dask=dask)
        seen = read_sweep(out)
        invalid = sorted(seen.loc[seen["verdict"] == "invalid", "run"].unique())
        agreement = compare_sweep(known, out, seen, ["regime"], "round_robin")
        requests = with_entries(requests, seen, entered)
    elif out is not None:
        make_folders(out)
    boards = make_board(requests)
    if out is not None:
        with new_files(out) as partial:
            (partial / PAGE).write_text(board_page(boards, _command(policies), _missing(boards)), encoding="utf-8")
            for board in boards:
                if board.world == "analytic":
                    note = f"{board.seeds} seeds, {board.requests:,} requests a policy."
                    draw_chart(board_chart(board), note, partial)
    if as_json:
        report = {
            "boards": [asdict(board) for board in boards],
            "out": None if out is None else str(out),
            "invalid": invalid,
            "agreement": None if agreement is None else agreement.as_json(),
        }
        typer.echo(json.dumps(strict(report), indent=1, default=str))
    else:
        for board in boards:
            console.print(board_text(board, entered))
        if out is not None:
            console.print(f"page:   {out / PAGE}", highlight=False, soft_wrap=True)
    if invalid:
        lost = f"{len(invalid)} runs are invalid and left out; no score counts the requests of their regimes and seeds"
        typer.echo(f"netkv: {lost}: {', '.join(invalid)}; `verdict_reasons` in their manifest.json say why", err=True)
    if agreement is not None and not agreement.holds:
        for sentence in agreement_text(agreement):
            typer.echo(f"netkv: {sentence}", err=True)
    if invalid or (agreement is not None and not agreement.holds):
        raise typer.Exit(1)


def _command(policies: str | None) -> str:
    return "netkv reference leaderboard" + (f" --policies {policies}" if policies else "") + " --out DIR"


def _missing(boards: list[Board]) -> list[str]:
    if any(board.world == "emulated" for board in boards):
        return []
    return ["Emulated: the reference has no emulated runs; `netkv reference build --with SWEEP` adds those of a sweep."]
