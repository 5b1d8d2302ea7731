"""`netkv gains`: the gains of an emulated sweep, told by what packets change of the fluid model's answer."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.verbs.options import Jobs, Resume, check_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from rich.table import Table

    from experiments.questions import Question
    from experiments.running import Condition

TABLE = "gains.csv"
TOLD = (
    "told: the fluid model's change over its long runs, corrected by how packets differ from it on the requests that"
    " were emulated; 95 % intervals"
)


def gains(
    sweeps: Annotated[
        list[Path], typer.Argument(metavar="SWEEP...", help="Folders of emulated sweeps, of one question.")
    ],
    requests: Annotated[int, typer.Option(metavar="N", min=1, help="Requests of a long run.")] = 2000,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Long runs of each kind.")] = 5,
    own_decisions: Annotated[
        bool, typer.Option("--own-decisions", help="The fluid model decides for itself: wider, and less is assumed.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For the long runs and gains.csv (default: a new one).")
    ] = None,
    resume: Resume = False,
    jobs: Jobs = 1,
) -> None:
    """Tell each gain of an emulated sweep far narrower than its own runs do.

    The fluid model's change over thousands of requests, corrected by how packets differ from it on the hundreds that
    were emulated. The fluid model is given the decisions of the emulated runs, which takes for granted that those are
    as good as its own; --own-decisions does not.
    """
    import pandas as pd
    from rich.console import Console

    from experiments.comparing import gains_by_twins, long_runs, replayed, twins_of, with_told
    from experiments.drawing import HeatMap, draw_chart
    from experiments.questions import QUESTIONS
    from experiments.running import StoreError, new_files, read_description, read_sweep, run_sweep

    check_jobs(jobs, None)
    asked = {str(read_description(sweep)["question"]): sweep for sweep in sweeps}
    for name, sweep in asked.items():
        if name not in QUESTIONS:
            raise StoreError(f"{sweep}: a sweep of {name}; `netkv gains` is for those of {', '.join(QUESTIONS)}")
    if len(asked) > 1:
        raise StoreError(f"{sweeps[-1]}: sweeps of {' and '.join(asked)}; one question of all is wanted")
    (question,) = (QUESTIONS[name] for name in asked)
    parts = {sweep: _emulated(sweep) for sweep in sweeps}
    place = out or Path("results") / f"gains-{datetime.now():%Y%m%d-%H%M%S}"
    console = Console()
    made: dict[str, Condition] = {}
    for sweep, part in parts.items():
        for one in long_runs(sweep, part, count=requests, seeds=seeds):
            if made.setdefault(one.name, one).spec != one.spec:
                raise StoreError(f"{sweep}: not of the same set-up as {sweeps[0]} ({one.name.rpartition('-')[0]})")
    wanted = list(made.values())
    run_sweep(question.name, wanted, place, resume=resume, console=console, jobs=jobs)
    emulated = pd.concat(parts.values(), ignore_index=True)
    of_each = [(twins_of if own_decisions else replayed)(sweep, part) for sweep, part in parts.items()]
    twins = pd.concat(of_each, ignore_index=True)
    axes = [axis.label for axis in question.axes]
    found = gains_by_twins(emulated, twins, read_sweep(place), axes, question.references)
    if found.empty:
        raise StoreError(f"{sweeps[0]}: has no two policies in the same place, so no gain")
    with new_files(place) as partial:
        found.to_csv(partial / TABLE, index=False, float_format="%.4f")
        maps = [
            chart
            for chart in question.charts(with_told(question.results(emulated), found, axes, question.references[0]))
            if isinstance(chart, HeatMap)
        ]
        note = f"{emulated['run'].nunique()} emulated runs and {len(wanted)} longer ones of the fluid model."
        drawn = [path.name for chart in maps for path in draw_chart(chart, note, partial)]
    for table in _tables(found, question):
        console.print(table)
    console.print(TOLD, soft_wrap=True)
    if drawn:
        console.print(f"figure:  {place / drawn[0]} (and .svg)", highlight=False, soft_wrap=True)
    console.print(f"table:   {place / TABLE}", highlight=False, soft_wrap=True)


def _emulated(sweep: Path) -> pd.DataFrame:
    """The requests of a sweep's emulated runs that count. StoreError where there are none."""
    from experiments.running import StoreError, read_sweep

    seen = read_sweep(sweep)
    found: pd.DataFrame = seen[(seen["world"] == "emulated") & (seen["verdict"] != "invalid")]
    if found.empty:
        raise StoreError(f"{sweep}: holds no run of the emulated world that is not invalid")
    return found


def _tables(found: pd.DataFrame, question: Question) -> Iterator[Table]:
    """One a place, quantity and reference, with a row a policy and refresh interval."""
    from rich import box
    from rich.table import Table

    from experiments.analysis import refresh_name

    keys = ["workload", *(axis.label for axis in question.axes), "quantity", "reference"]
    for at, rows in found.groupby(keys, dropna=False, sort=False):
        *place, quantity, reference = (f"{value:g}" if isinstance(value, float) else str(value) for value in at)
        title = f"{', '.join(place)}: {quantity} against {reference}, %"
        table = Table(title=title, box=box.SIMPLE, pad_edge=False, padding=0, min_width=72, title_justify="left")
        for heading in ("policy", "refresh", "emulated alone", "fluid, long runs", "told"):
            table.add_column(heading, justify="left" if heading in ("policy", "refresh") else "right", no_wrap=True)
        for row in rows.to_dict("records"):
            changes = (
                f"{row[f'{side}_percent']:+.1f} ± {(row[f'{side}_high'] - row[f'{side}_low']) / 2:.1f}"
                for side in ("emulated", "fluid", "told")
            )
            aged = "-" if math.isnan(row["refresh_s"]) else refresh_name(row["refresh_s"])
            table.add_row(str(row["policy"]), aged, *changes)
        yield table
