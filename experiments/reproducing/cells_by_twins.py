"""The paper's cells in emulation, told by what packets change of the fluid model's answer: see `fluid_twins`."""

from __future__ import annotations

import pandas as pd

from experiments.analysis import Interval, counted
from experiments.comparing import WithTwin, change_by_twin, difference_by_twin, mean_by_twin, share_by_twin
from experiments.published import PublishedCell
from experiments.reproducing.cells_beside import CellBeside, Runs, cells_beside, run_key, runs_of

RATIOS = {"mean_ttft": "ttft_ms", "mean_tbt": "tpot_ms", "mean_transfer": "kv_transfer_ms"}
SHARES = {"slo_attainment": "slo_met"}
CHANGES = {"mean_ttft_change": "ttft_ms"}
DIFFERENCES = {"slo_attainment_change": "slo_met", "mean_tbt_change": "tpot_ms"}
"""Quantities of cells that are told so, and the column that each is of: not percentiles, whose few requests differ."""


def cells_by_twins(requests: pd.DataFrame, twins: pd.DataFrame, fluid: pd.DataFrame) -> list[CellBeside]:
    """The predicted cells that the runs of `requests` hold, each with what its twins and the fluid model's long runs
    `fluid` make of it. All three are frames of `experiments.read_sweep`; cells whose mode is packet are held to the
    fluid model's runs of the same condition."""
    packets, same = (runs_of(counted(frame)) for frame in (requests, twins))
    long = {(_asked(one.cell), one.cell.policy, one.cell.against): one for one in cells_beside(fluid)}
    found = []
    for one in cells_beside(requests):
        known = long.get((_asked(one.cell), one.cell.policy, one.cell.against))
        if known is not None and not one.fitted and (ours := _told(one.cell, packets, same, known.ours)) is not None:
            found.append(CellBeside(one.cell, one.world, ours, one.requests))
    return found


def _asked(cell: PublishedCell) -> tuple[str, str, object]:
    """The quantity of a cell and what it is of; the paper's own mode is not ours."""
    return cell.quantity, str(run_key(cell, cell.policy)), cell.condition.get("tier")


def _told(cell: PublishedCell, packets: Runs, same: Runs, long: Interval) -> Interval | None:
    pairs = []
    for policy in (cell.policy, *([cell.against] if cell.against else [])):
        key = run_key(cell, policy)
        if key not in packets or key not in same:
            return None
        pairs.append(WithTwin(packets[key], same[key]))
    ours, base = pairs[0], pairs[-1]
    if cell.quantity in RATIOS:
        return mean_by_twin(ours, RATIOS[cell.quantity], long)
    if cell.quantity in SHARES:
        return share_by_twin(ours, SHARES[cell.quantity], long)
    if cell.quantity in CHANGES:
        return change_by_twin(ours, base, CHANGES[cell.quantity], long)
    if cell.quantity in DIFFERENCES:
        times = 100 if cell.unit == "points" else 1
        return difference_by_twin(ours, base, DIFFERENCES[cell.quantity], long, times=times)
    return None
