"""Every gain three ways, so that it can be seen how much of it is the emulation's own error.

Emulated; in the fluid model with the decisions of the emulated run; in the fluid model that decides for itself. The
first two differ by the network model alone: their difference is the bias that emulation adds to a gain.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from experiments.analysis import paired_change
from experiments.comparing.independent_runs import Pair, interval_of
from experiments.comparing.recorded_run import REPLAY, RecordedRun
from scheduler import reads_telemetry

WAYS = ("emulated", "same_decisions", "own_decisions")
BASELINES = ("round_robin", "netkv_static")
"""What gains of a setting are against: the first of these that was run there, else its first policy."""


def gains_report(runs: Sequence[RecordedRun], pairs: Sequence[Pair], table: pd.DataFrame) -> list[dict[str, Any]]:
    """The section `gains` of a comparison: a row a setting, policy and refresh interval.

    `table`: of `replay_table`. Each of `WAYS` is the change of the mean TTFT against `baseline` over the same requests,
    percent, with its 95 % interval; `bias_points` is the first less the second.
    """
    requests = pd.concat([_three_ways(pair, runs, table) for pair in pairs], ignore_index=True)
    return [row for _, here in requests.groupby("setting", sort=False) for row in _of_setting(here)]


def _of_setting(here: pd.DataFrame) -> Iterator[dict[str, Any]]:
    policies = list(dict.fromkeys(here["policy"]))
    baseline = next((name for name in BASELINES if name in policies), policies[0])
    base = here[here["policy"] == baseline]
    others = here[here["policy"] != baseline]
    for _, group in others.groupby(["policy", "refresh_s"], sort=False, dropna=False):
        policy, refresh_s = group["policy"].iloc[0], float(group["refresh_s"].iloc[0])
        changes = {way: interval_of(paired_change(base, group, way)) for way in WAYS}
        bias = changes["emulated"]["percent"] - changes["same_decisions"]["percent"]
        aged = None if math.isnan(refresh_s) else refresh_s
        yield {"policy": policy, "refresh_s": aged, "baseline": baseline, **changes, "bias_points": bias}


def _three_ways(pair: Pair, runs: Sequence[RecordedRun], table: pd.DataFrame) -> pd.DataFrame:
    """The requests of one run with their TTFT in ms by way. With the same decisions only the transfer differs."""
    spec = pair.emulated.spec
    (folder, *_) = [run.folder.name for run in runs if run.spec == spec]
    ours, theirs = (one.requests.set_index("request_id") for one in (pair.emulated, pair.analytic))
    replayed_ms = 1e3 * table[table["run"] == folder].set_index("request_id")[REPLAY]
    longer_ms = (ours["kv_transfer_ms"] - replayed_ms.reindex(ours.index)).fillna(0.0)
    both = (ours["status"] == "completed") & (theirs["status"].reindex(ours.index) == "completed")
    setting = spec.scenario.model_dump(mode="json", exclude={"policy", "policy_parameters", "seed", "oracle"})
    return pd.DataFrame(
        {
            "setting": json.dumps(setting, sort_keys=True),
            "policy": spec.policy,
            "refresh_s": spec.oracle.refresh_s if reads_telemetry(spec.policy) else math.nan,
            "seed": spec.seed,
            "request_id": ours.index,
            "status": ["completed" if done else "failed" for done in both],
            "emulated": ours["ttft_ms"],
            "same_decisions": ours["ttft_ms"] - longer_ms,
            "own_decisions": theirs["ttft_ms"].reindex(ours.index),
        }
    ).reset_index(drop=True)
