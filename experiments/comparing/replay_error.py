"""How far the emulation is from the fluid answer, transfer by transfer, when only the network model differs.

An error is (emulated - model) / model: positive when the emulated transfer took longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.comparing.recorded_run import (
    PAYLOAD_B,
    REPLAY,
    REPLAYED,
    WITH_LATENCY,
    RecordedRun,
    measured_models,
    sharers,
)

SIZES_B = (0, 250e6, 1e9, 2.5e9, np.inf)
SIZE_NAMES = ("< 0.25 GB", "0.25-1 GB", "1-2.5 GB", "> 2.5 GB")
LESS_THAN_A_FRAME = "< 1 frame"
"""The size of what the emulation scales down to less than a full frame, as of prompts that are cached but for a block.
A fluid takes next to no time for it, a frame what switches and processes take."""

SHARERS = (-1, 0, 4, 12, np.inf)
SHARER_NAMES = ("alone", "1-4 others", "5-12 others", "> 12 others")


def replay_table(runs: Sequence[RecordedRun]) -> pd.DataFrame:
    """A row a transfer of every run: what it took in emulation (`taken_s`) and on every model, its size and load.

    `frames` is how many full frames it was scaled down to.
    """
    tables = []
    for run in runs:
        modelled = {model: run.replayed_s(model) for model in REPLAYED}
        modelled[WITH_LATENCY] = modelled[REPLAY] + run.latency_s()
        others = sharers(run.transfers, run.connections)
        scaled = run.transfers["kv_bytes"] / run.spec.emulation.rate_scale / PAYLOAD_B
        names = {"run": run.folder.name, "policy": run.spec.policy}
        tables.append(run.transfers.assign(**names, sharers=others, frames=scaled, **modelled))
    table = pd.concat(tables, ignore_index=True)
    sizes = pd.cut(table["kv_bytes"], SIZES_B, labels=SIZE_NAMES)
    sizes = sizes.cat.add_categories(LESS_THAN_A_FRAME).cat.reorder_categories([LESS_THAN_A_FRAME, *SIZE_NAMES])
    return table.assign(
        error=table["taken_s"] / table[REPLAY] - 1,
        size=sizes.mask(table["frames"] < 1, LESS_THAN_A_FRAME),
        load=pd.cut(table["sharers"], SHARERS, labels=SHARER_NAMES),
    )


def replay_report(table: pd.DataFrame) -> dict[str, Any]:
    """The section `replay` of a comparison: errors of transfers, in all and by policy, tier, size and load; the
    makespan; and by how many points the policies' errors of all time together (`total_error`) are apart."""
    by_policy = _by(table, "policy")
    totals = [found["total_error"] for found in by_policy.values()]
    return {
        "transfers": len(table),
        "kv_transfer": errors_of(table["error"]),
        "less_latency": _less_latency(table),
        "makespan_error": float(np.mean(makespan_errors(table))),
        "transfer_time_error": _total_error(table),
        "policies_apart": max(totals) - min(totals),
        "by_policy": by_policy,
        "by_tier": _by(table, "tier"),
        "by_size": _by(table, "size"),
        "by_load": _by(table, "load"),
    }


def models_report(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The section `models` of a comparison: the error left by each model in order, and how much of the median error the
    step to it removed."""
    found_by_model: list[dict[str, Any]] = []
    for model in measured_models(table):
        found = errors_of((table["taken_s"] / table[model] - 1).dropna())
        removed = found_by_model[-1]["median_abs_error"] - found["median_abs_error"] if found_by_model else None
        found_by_model.append({"model": model, **found, "removed": removed})
    return found_by_model


def errors_of(errors: pd.Series[float]) -> dict[str, Any]:
    """Count, median and 90th percentile of |error|, and the median of the signed one."""
    size = np.abs(errors.to_numpy(dtype=float))
    return {
        "count": len(size),
        "median_abs_error": float(np.median(size)),
        "p90_abs_error": float(np.quantile(size, 0.9)),
        "median_error": float(np.median(errors)),
    }


def _by(table: pd.DataFrame, column: str) -> dict[str, Any]:
    return {
        str(name): {**errors_of(rows["error"]), "total_error": _total_error(rows)}
        for name, rows in table.groupby(column, observed=True)
    }


def _total_error(table: pd.DataFrame) -> float:
    """Of the times of all transfers together."""
    return float(table["taken_s"].sum() / table[REPLAY].sum() - 1)


def _less_latency(table: pd.DataFrame) -> dict[str, Any] | None:
    """Errors against the replay plus what the emulation adds to every transfer; None where that was not measured."""
    known = table[table[WITH_LATENCY].notna()]
    if known.empty:
        return None
    nearest_s = known[WITH_LATENCY]
    errors = known["taken_s"] / nearest_s - 1
    return {
        **errors_of(errors),
        "total_error": float(known["taken_s"].sum() / nearest_s.sum() - 1),
        "by_size": {str(name): errors_of(rows) for name, rows in errors.groupby(known["size"], observed=True)},
    }


def makespan_errors(table: pd.DataFrame) -> list[float]:
    """Of the time from the first start to the last end of a run's transfers, by run."""
    errors = []
    for _, rows in table.groupby("run"):
        first_s = rows["start_s"].min()
        real_s = (rows["start_s"] + rows["taken_s"]).max() - first_s
        errors.append(float(real_s / ((rows["start_s"] + rows[REPLAY]).max() - first_s) - 1))
    return errors
