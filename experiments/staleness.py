"""The staleness sweep: does NetKV keep its gain when its view of the network is old?

Only NetKV-Full reads telemetry, so only it is run at every refresh interval; the others are its references and run once
a seed. All policies see the same requests and the same background traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from experiments.spec import SpecError, make_spec
from experiments.statistics import mean_interval, paired_change
from experiments.sweep import Condition
from scheduler import POLICIES as POLICY_NAMES
from scheduler.policy import TELEMETRY_POLICIES

QUESTION = "staleness"
BASELINE = "round_robin"
POLICIES = ("round_robin", "cla", "netkv_static", "netkv_full")


@dataclass(frozen=True)
class Profile:
    """How much of the question is asked: `refresh_s` by `seeds`, and changes to the default specification."""

    refresh_s: tuple[float, ...]
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]


PROFILES = {
    # Minutes on two cores: prompts of up to 32 k tokens (93 of 100), answers cut at 64 tokens, congestion that moves
    # every few seconds so that a run of about 20 s sees several states of it.
    "quick": Profile(
        refresh_s=(0.1, 1.0, 5.0, 20.0),
        seeds=(0, 1),
        changes={
            "workload.requests": 75,
            "workload.speedup": 1.5,
            "workload.max_input_tokens": 32_768,
            "workload.max_output_tokens": 64,
            "congestion.mean_on_s": 2.5,
            "congestion.mean_off_s": 2.5,
        },
    ),
    "full": Profile(
        refresh_s=(0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0),
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 400, "workload.max_output_tokens": 256},
    ),
}


def staleness_conditions(
    profile: Profile, policies: Sequence[str], worlds: Sequence[str], changes: Mapping[str, Any]
) -> list[Condition]:
    """The runs of the sweep, seed by seed. A refresh interval among the `changes` replaces the profile's. SpecError."""
    for name, option in (("policy", "--policies"), ("world", "--world")):
        if name in changes:
            raise SpecError(f"{name}: a sweep sets it for each of its runs (use {option})")
    refresh_s = (changes["oracle.refresh_s"],) if "oracle.refresh_s" in changes else profile.refresh_s
    seeds = (changes["seed"],) if "seed" in changes else profile.seeds
    conditions = []
    for world in worlds:
        for seed in seeds:
            for policy in dict.fromkeys(policies):
                reads_telemetry = policy in TELEMETRY_POLICIES or policy not in POLICY_NAMES  # a user's own may
                for refresh in refresh_s if reads_telemetry else refresh_s[:1]:
                    settings = {"world": world, "policy": policy, "seed": seed, "oracle.refresh_s": refresh}
                    spec = make_spec({}, {**profile.changes, **changes, **settings})
                    swept_s = spec.oracle.refresh_s if reads_telemetry else None
                    age = "" if swept_s is None else f"-refresh{swept_s:g}s"
                    name = f"{world}-{policy.replace(':', '.')}{age}-seed{spec.seed}"
                    labels = {"world": world, "refresh_s": swept_s, "seed": spec.seed}
                    conditions.append(Condition(name, spec, labels))
    return conditions


def staleness_results(requests: pd.DataFrame) -> pd.DataFrame:
    """One row a world, policy and refresh interval: means, their intervals, and the change against round-robin.

    Runs with an invalid verdict are left out.
    """
    trusted = requests[requests["verdict"] != "invalid"]
    rows = []
    for (world, policy, refresh), group in trusted.groupby(["world", "policy", "refresh_s"], dropna=False, sort=False):
        done = group[group["status"] == "completed"]
        baseline = trusted[(trusted["world"] == world) & (trusted["policy"] == BASELINE)]
        mean, low, high = mean_interval(done["ttft_ms"].to_numpy(dtype=float))
        change = paired_change(baseline, group, "ttft_ms")
        moved = done[done["kv_bytes"] > 0]
        error = (moved["predicted_kv_transfer_ms"] - moved["kv_transfer_ms"]).abs() / moved["kv_transfer_ms"]
        rows.append(
            {
                "world": world,
                "policy": policy,
                "refresh_s": refresh,
                "requests": len(group),
                "completed": len(done),
                "ttft_ms": mean,
                "ttft_low_ms": low,
                "ttft_high_ms": high,
                "p99_ttft_ms": done["ttft_ms"].quantile(0.99),
                "ttft_change_percent": change.percent,
                "ttft_change_low": change.low,
                "ttft_change_high": change.high,
                "kv_transfer_ms": done["kv_transfer_ms"].mean(),
                "tpot_ms": done["tpot_ms"].mean(),
                "slo_attainment": group["slo_met"].mean(),
                "oracle_age_ms": done["oracle_age_ms"].mean(),
                "prediction_error": error.median(),
            }
        )
    return pd.DataFrame(rows)


def staleness_table(results: pd.DataFrame) -> Table:
    """The results as a person reads them, within 80 columns."""
    failed = int((results["requests"] - results["completed"]).sum())
    table = Table(
        title="Mean time to first token as the network view gets older",
        caption=f"change: mean TTFT against {BASELINE}, 95 % interval; {failed or 'no'} requests failed",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    several_worlds = results["world"].nunique() > 1
    table.add_column("policy", no_wrap=True)
    for heading in ("refresh", "TTFT ms", "change %", "KV ms", "TBT ms", "SLO %", "age s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results.to_dict("records"):
        swept = not pd.isna(row["refresh_s"])
        change = f"{row['ttft_change_percent']:+.1f} [{row['ttft_change_low']:+.0f}, {row['ttft_change_high']:+.0f}]"
        table.add_row(
            f"{row['world']} {row['policy']}" if several_worlds else str(row["policy"]),
            f"{row['refresh_s']:g} s" if swept else "-",
            f"{row['ttft_ms']:.0f}",
            "-" if row["policy"] == BASELINE else change,
            f"{row['kv_transfer_ms']:.0f}",
            f"{row['tpot_ms']:.1f}",
            f"{100 * row['slo_attainment']:.0f}",
            f"{row['oracle_age_ms'] / 1e3:.1f}" if swept else "-",
        )
    return table


def write_results(out: Path, results: pd.DataFrame) -> Path:
    """The table as a CSV file beside the runs."""
    place = out / "staleness.csv"
    results.to_csv(place, index=False)
    return place
