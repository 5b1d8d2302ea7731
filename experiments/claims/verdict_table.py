"""The verdicts as a person reads them: a table within 80 columns, and a line a claim."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from experiments.claims.claim import ClaimVerdict


def claims_table(found: Sequence[ClaimVerdict], title: str = "The paper's claims") -> Table:
    """A row a claim and world: the verdict, the paper's number, ours with its interval, p, how many were compared."""
    table = Table(
        title=title,
        caption="intervals (95 %) hold together for all n comparisons, and p is corrected",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading in ("claim", "world", "verdict"):
        table.add_column(heading, no_wrap=True)
    for heading in ("paper", "here", "p", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for verdict in found:
        figure = verdict.about.figure
        table.add_row(
            verdict.claim,
            verdict.world,
            verdict.verdict,
            "-" if figure is None else f"{figure:g}",
            verdict.ours,
            "-" if verdict.p is None else "<.001" if verdict.p < 0.001 else f"{verdict.p:.3f}",
            str(verdict.comparisons or "-"),
        )
    return table


def claim_lines(found: Sequence[ClaimVerdict]) -> list[str]:
    """A line a claim and world: what is claimed and what was found."""
    return [
        f"{verdict.claim} ({verdict.about.statement}), {verdict.world} world: {verdict.verdict}. {verdict.sentence}"
        for verdict in found
    ]
