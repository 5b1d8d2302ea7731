"""The leaderboard as a page of Markdown and as a table in a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from experiments.analysis import Interval
from experiments.reference.leaderboard import BASELINE, Board, PolicyChange, Standing

AT_ONCE = 3
"""Regimes side by side on a page."""


def _change(change: Interval) -> str:
    value, low, high = (round(end, 1) + 0.0 for end in (change.value, change.low, change.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _detectable(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _rank(board: Board, standing: Standing) -> str:
    """Its place by score; all that are not significantly worse than the first share the first place."""
    if standing.score is None:
        return "-"
    return "1" if standing.ties_with_first else str(1 + board.standings.index(standing))


def _score_texts(standing: Standing) -> tuple[str, str, str]:
    """The score, the smallest one that would have been found, and what it is behind the first."""
    behind = "-" if standing.behind is None else _change(standing.behind)
    if standing.score is None or standing.policy == BASELINE:
        return "-", "-", behind
    return _change(standing.score), _detectable(standing.score_detectable), behind


def _cell_text(cell: PolicyChange | None) -> str:
    if cell is None:
        return "not run"
    if math.isnan(cell.change.value):
        return "-"
    away = f", {cell.rejected_percent:.0f} % turned away" if cell.rejected_percent else ""
    return f"{_change(cell.change)}; {_detectable(cell.detectable)}{away}"


def board_page(boards: Sequence[Board], command: str, missing: Sequence[str]) -> str:
    """The page. `command`: what prints it; `missing`: worlds without runs of the question, and how to make them."""
    return "\n".join(_page(boards, command, missing)) + "\n"


def _page(boards: Sequence[Board], command: str, missing: Sequence[str]) -> Iterator[str]:
    yield "# Leaderboard"
    yield ""
    yield "Made from the [reference results](../data/reference/README.md), so a change of these makes it anew:"
    yield ""
    yield f"    {command}"
    yield ""
    yield "Every figure is the change of the mean TTFT against round-robin on the same requests, percent, with its"
    yield "95 % interval and the smallest change that would have been found (80 % power). The score is the geometric"
    yield "mean over all [regimes](sweeps.md#regimes). Policies whose score is not significantly worse than the best"
    yield "share the first place. Intervals are of one comparison each."
    yield "[Enter a policy](../how-to/reference-results.md#enter-a-policy)."
    for board in boards:
        yield ""
        yield f"## {board.world.capitalize()} world"
        yield ""
        yield (
            f"{len(board.standings)} policies, {len(board.regimes)} regimes, {board.seeds}"
            f" seed{'s' if board.seeds > 1 else ''}, {board.requests:,} requests a policy after the warm-up."
        )
        yield ""
        if instead := sorted({name.partition(":")[0] for name in board.regimes if ":" in name}):
            yield f"The reference has no regimes of this world; these are its runs of `{'`, `'.join(instead)}`."
            yield ""
        if board.world == "analytic":
            yield "![leaderboard](../img/leaderboard.png)"
            yield ""
        yield "| place | policy | score, % | detectable | behind the first, points |"
        yield "|---|---|---|---|---|"
        for one in board.standings:
            yield f"| {_rank(board, one)} | {one.policy} | {' | '.join(_score_texts(one))} |"
        if unranked := [one.policy for one in board.standings if one.score is None]:
            yield ""
            yield (
                f"No place: {', '.join(unranked)}. It turned requests away, and the mean of those that it served is not"
                " comparable; or it was not run in every regime."
            )
        for first in range(0, len(board.regimes), AT_ONCE):
            regimes = board.regimes[first : first + AT_ONCE]
            yield ""
            yield f"| policy | {' | '.join(regimes)} |"
            yield "|---|" + "---|" * len(regimes)
            for one in board.standings:
                if one.policy != BASELINE:
                    cells = " | ".join(_cell_text(one.cells.get(regime)) for regime in regimes)
                    yield f"| {one.policy} | {cells} |"
    for sentence in missing:
        yield ""
        yield sentence


def board_text(board: Board, policies: Sequence[str] = ()) -> Table:
    """The scores of one world for a terminal; `policies` are marked as new."""
    table = Table(
        title=f"Mean TTFT against {BASELINE}, {len(board.regimes)} regimes, {board.world} world",
        caption="95 % intervals; detectable: 80 % power; behind: points; *: new",
        box=box.SIMPLE,
        pad_edge=False,
        padding=0,
        min_width=64,
    )
    table.add_column("place", justify="right", no_wrap=True)
    table.add_column("policy", overflow="fold")  # the one that gives way on a narrow terminal
    for heading in ("score %", "detectable", "behind"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in board.standings:
        score, detectable, behind = _score_texts(one)
        mark = " *" if one.policy in policies else ""
        table.add_row(_rank(board, one), f"{one.policy}{mark}", score, detectable, behind)
    return table
