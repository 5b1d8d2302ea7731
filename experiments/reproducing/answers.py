"""What the cells say in words: how many come out, and the questions that the paper leaves to a measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pandas as pd

from experiments.analysis import CAVEAT, Interval, counted, percent_change, relative_change
from experiments.reproducing.cells_beside import CellBeside
from experiments.reproducing.conditions import REFRESH_S, PaperCondition

FULL, BASE = "paper_full", "cla_star"


def answers(beside: Sequence[CellBeside], requests: pd.DataFrame) -> list[str]:
    """Sentences on each world's cells. `requests`: the frame that the cells were made of."""
    said = []
    for world in dict.fromkeys(one.world for one in beside):
        cells = [one for one in beside if one.world == world]
        found = [
            *_totals(cells),
            *_mode(cells),
            *_telemetry(counted(requests[requests["world"] == world])),
            *_flatness(cells),
            *_context(cells),
            *_size(cells),
        ]
        said += [f"In the {world} world {text}." for text in found]
    return [*said, CAVEAT] if said else []


def totals(cells: Sequence[CellBeside]) -> Counter[str]:
    """How many predicted cells have which verdict; cells that were fitted count as `fitted`, never as `inside`."""
    return Counter(one.standing for one in cells)


def _totals(cells: Sequence[CellBeside]) -> Iterator[str]:
    count = totals(cells)
    predicted = count["inside"] + count["outside"] + count["cannot_tell"]
    yield (
        f"of {predicted} predicted cells {count['inside']} come out and {count['outside']} do not; for"
        f" {count['cannot_tell']} our intervals are too wide to tell; {count['fitted']} more were fitted"
    )


def _find(cells: Sequence[CellBeside], quantity: str, policy: str = FULL, **condition: object) -> list[CellBeside]:
    return [
        one
        for one in cells
        if (one.cell.quantity, one.cell.policy) == (quantity, policy)
        and all(one.cell.condition.get(name) == value for name, value in condition.items())
    ]


def _mode(cells: Sequence[CellBeside]) -> Iterator[str]:
    """Which of the paper's two modes real packets, or our fluid model, give at 64 GPUs."""
    at_64 = [one for one in _find(cells, "mean_ttft_change", gpus=64) if one.cell.table == "Table 5"]
    if at_64:
        published = ", ".join(f"{one.cell.value:+.1f} % in its {one.cell.condition['mode']} mode" for one in at_64)
        yield f"{FULL} against {BASE} on 64 GPUs: mean TTFT {percent_change(at_64[0].ours)}; the paper has {published}"


def _telemetry(requests: pd.DataFrame) -> Iterator[str]:
    """What dynamic congestion adds to self-contention (Table 4's last step)."""
    for workload, rows in requests.groupby("workload", sort=False):
        here = rows[rows["condition"] == PaperCondition(workload=str(workload)).name]
        own = here[here["policy"] == "paper_self_contention"]
        full = here[(here["policy"] == FULL) & (here["refresh_s"] == REFRESH_S)]
        if len(own) and len(full):
            change = Interval.of_estimate(relative_change(own, full, "ttft_ms"))
            yield f"what telemetry adds to self-contention, {workload}: mean TTFT {percent_change(change)}"


def _flatness(cells: Sequence[CellBeside]) -> Iterator[str]:
    """How far Figure 2's line moves from the freshest to the oldest telemetry."""
    line = sorted(
        (one for one in _find(cells, "p99_ttft") if one.cell.table == "Figure 2"),
        key=lambda one: float(one.cell.condition["refresh_s"]),
    )
    if len(line) > 1:
        values = [one.ours.value for one in line]
        spread = 100 * (max(values) / min(values) - 1)
        ends = [f"{float(one.cell.condition['refresh_s']):g}" for one in (line[0], line[-1])]
        yield (
            f"{FULL}'s P99 TTFT varies by {spread:.1f} % from {ends[0]} to {ends[1]} s between refreshes; in Figure 2"
            " it is flat"
        )


def _context(cells: Sequence[CellBeside]) -> Iterator[str]:
    """Where along the context the gain peaks, and what is left at the longest."""
    line = [one for one in _find(cells, "mean_ttft_change") if one.cell.against == BASE and one.cell.table == "Table 3"]
    if len(line) > 1:
        ways: tuple[tuple[str, Callable[[CellBeside], float]], ...] = (("our", _ours), ("the paper's", _theirs))
        for whose, value in ways:
            best, longest = (min(line, key=value), max(line, key=_tokens))
            yield (
                f"along the context {whose} gain over {BASE} peaks at {_tokens(best):g} tokens ({value(best):+.1f} %)"
                f" and is {value(longest):+.1f} % at {_tokens(longest):g}"
            )


def _ours(one: CellBeside) -> float:
    return one.ours.value


def _theirs(one: CellBeside) -> float:
    return one.cell.value


def _tokens(one: CellBeside) -> float:
    return float(one.cell.condition["context_tokens"])


def _size(cells: Sequence[CellBeside]) -> Iterator[str]:
    """Whether anything changes from 128 to 1,024 GPUs."""
    line = [one for one in _find(cells, "mean_ttft_change", mode="flow") if float(one.cell.condition["gpus"]) >= 128]
    if len(line) > 1:
        values = [one.ours.value for one in line]
        largest = max(float(one.cell.condition["gpus"]) for one in line)
        yield (
            f"from 128 to {largest:g} GPUs {FULL}'s gain over {BASE} moves by"
            f" {max(values) - min(values):.1f} points; in the paper's flow mode not at all"
        )
