"""`netkv gains`: the gains of an emulated sweep, told by what packets change of the fluid model's answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from experiments.questions import Question


def gains(
    emulated: Annotated[Path, typer.Argument(metavar="EMULATED", help="A sweep's folder, emulated runs.")],
    analytic: Annotated[
        Path, typer.Argument(metavar="ANALYTIC", help="The same sweep of the analytic world, with more requests.")
    ],
    own_decisions: Annotated[
        bool, typer.Option("--own-decisions", help="The fluid model decides for itself: wider, and less is assumed.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write all rows as a table.")] = None,
) -> None:
    """Tell each gain of an emulated sweep far narrower than its own runs do.

    The fluid model's change over thousands of requests, corrected by how packets differ from it on the hundreds that
    were emulated. The analytic sweep is of the same question, profile and settings, but for seeds and
    workload.requests. The fluid model is given the decisions of the emulated runs, which takes for granted that those
    are as good as its own; --own-decisions does not.
    """
    from rich.console import Console

    from experiments.comparing import check_same_set_up, gains_by_twins, replayed, twins_of
    from experiments.questions import QUESTIONS
    from experiments.running import StoreError, check_new_file, read_description, read_sweep, write_new_file

    if out is not None:
        check_new_file(out)
    asked = {str(read_description(place)["question"]) for place in (emulated, analytic)}
    if len(asked) > 1 or not asked <= set(QUESTIONS):
        raise StoreError(f"{analytic}: a sweep of {' and one of '.join(sorted(asked))}; one question of both is wanted")
    question = QUESTIONS[asked.pop()]
    requests, fluid = read_sweep(emulated), read_sweep(analytic)
    for place, frame, world in ((emulated, requests, "emulated"), (analytic, fluid, "analytic")):
        if others := set(frame["world"]) - {world}:
            raise StoreError(f"{place}: has runs of the {', '.join(others)} world; those of the {world} one are wanted")
    check_same_set_up(emulated, requests, analytic, fluid)
    twins = (twins_of if own_decisions else replayed)(emulated, requests)
    found = gains_by_twins(requests, twins, fluid, [axis.label for axis in question.axes], question.references)
    if found.empty:
        raise StoreError(f"{emulated}: none of its policies was run in the same place in {analytic}")
    Console().print(_table(found, question))
    if out is not None:
        write_new_file(out, found.to_csv(index=False, float_format="%.4f"))


def _table(found: pd.DataFrame, question: Question) -> Table:
    """A row a policy, a section a place and quantity."""
    from rich import box
    from rich.table import Table

    from experiments.analysis import refresh_name

    references = ", ".join(dict.fromkeys(found["reference"]))
    table = Table(
        title=f"Changes against {references}, %", box=box.SIMPLE, pad_edge=False, padding=0, min_width=64,
        caption="told: the fluid model's change, corrected by how packets differ from it on the same requests",
    )  # fmt: skip
    for heading in ("", "refresh", "emulated", "fluid, long runs", "told"):
        table.add_column(heading, justify="left" if heading in ("", "refresh") else "right", no_wrap=True)
    keys = ["quantity", "workload", *(axis.label for axis in question.axes)]
    for at, rows in found.groupby(keys, dropna=False, sort=False):
        table.add_section()
        places = (f"{value:g}" if isinstance(value, float) else str(value) for value in at[1:])
        table.add_row(f"[bold]{at[0]}, {', '.join(places)}")
        for row in rows.to_dict("records"):
            changes = (
                f"{row[f'{side}_percent']:+.1f} [{row[f'{side}_low']:+.1f}, {row[f'{side}_high']:+.1f}]"
                for side in ("emulated", "fluid", "told")
            )
            table.add_row(str(row["policy"]), refresh_name(row["refresh_s"]), *changes)
    return table
