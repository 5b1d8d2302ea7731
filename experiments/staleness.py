"""The staleness sweep: does NetKV keep its gain when its view of the network is old?

Only NetKV-Full reads telemetry, so only it is run at every refresh interval; the others are its references and run once
a seed. All policies see the same requests and the same background traffic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from experiments.spec import RunSpec, SpecError, make_spec
from experiments.statistics import mean_interval, paired_change
from experiments.sweep import Condition
from scheduler import POLICIES as POLICY_NAMES
from scheduler.policy import TELEMETRY_POLICIES
from workloads import PROFILES as WORKLOADS

QUESTION = "staleness"
BASELINE = "round_robin"
WITHOUT_TELEMETRY = "netkv_static"
NEVER = "never"
POLICIES = ("round_robin", "cla", "netkv_static", "netkv_full")


@dataclass(frozen=True)
class Profile:
    """How much of the question is asked: `refresh_s` by `seeds`, and changes to the default specification.

    `workloads`: profiles of the generator, each for `span_s` at its own rate; empty for the specification's own.
    """

    refresh_s: tuple[float | str, ...]
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]
    workloads: tuple[str, ...] = ()
    span_s: float = 0.0

    def workload_changes(self, given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Changes for each workload of the sweep; one that the user names, or a trace, is the only one."""
        if "workload.profile" in given or "workload.trace" in given:
            return [{}]
        return [
            {"workload.profile": name, "workload.requests": math.ceil(self.span_s * WORKLOADS[name].rate_rps)}
            for name in self.workloads
        ] or [{}]


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
    # Two minutes a run: twice the longest refresh interval, so that even the oldest view is replaced once.
    "full": Profile(
        refresh_s=(0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, NEVER),
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 400, "workload.max_output_tokens": 256},
        workloads=("conversation", "chatbot", "rag", "long_context"),
        span_s=120.0,
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
    workloads = profile.workload_changes(changes)
    for world, workload, seed, policy in product(worlds, workloads, seeds, dict.fromkeys(policies)):
        reads_telemetry = policy in TELEMETRY_POLICIES or policy not in POLICY_NAMES  # a user's own may
        for refresh in refresh_s if reads_telemetry else refresh_s[:1]:
            settings = {"world": world, "policy": policy, "seed": seed, "oracle.refresh_s": refresh}
            spec = make_spec({}, {**profile.changes, **workload, **changes, **settings})
            swept = written(spec.oracle.refresh_s) if reads_telemetry else None
            age = "" if swept is None else f"-refresh{swept}" if swept == NEVER else f"-refresh{swept:g}s"
            load = f"{spec.workload.profile}-" if len(workloads) > 1 else ""
            name = f"{world}-{load}{policy.replace(':', '.')}{age}-seed{spec.seed}"
            labels = {"world": world, "workload": workload_name(spec), "refresh_s": swept, "seed": spec.seed}
            conditions.append(Condition(name, spec, labels))
    return conditions


def workload_name(spec: RunSpec) -> str:
    """What a run's requests are called in a table."""
    return spec.workload.profile if spec.workload.trace is None else spec.workload.trace.name


def written(refresh_s: float) -> float | str:
    """A refresh interval as files have it: JSON knows no infinite number."""
    return NEVER if math.isinf(refresh_s) else refresh_s


def read_refresh_s(requests: pd.DataFrame) -> pd.Series[float]:
    """The column `refresh_s` in numbers again, NaN where a policy reads no telemetry."""
    return pd.to_numeric(requests["refresh_s"].map(lambda given: math.inf if given == NEVER else given))


def staleness_results(requests: pd.DataFrame) -> pd.DataFrame:
    """One row a world, workload, policy and refresh interval: means, their intervals, and changes.

    `ttft_change`: against round-robin; `blind_change`: against NetKV-Static, which reads no telemetry; `aged_change`
    and `aged_kv`: of TTFT and of KV transfer against the same policy at its shortest refresh interval; `same_tier`: the
    share of requests that went over the same tier as there. Runs with an invalid verdict are left out.
    """
    trusted = requests[requests["verdict"] != "invalid"]
    trusted = trusted.assign(refresh_s=read_refresh_s(trusted))
    rows = []
    keys = ["world", "workload", "policy", "refresh_s"]
    for (world, workload, policy, refresh), group in trusted.groupby(keys, dropna=False, sort=False):
        done = group[group["status"] == "completed"]
        beside = trusted[(trusted["world"] == world) & (trusted["workload"] == workload)]
        of_policy = beside[beside["policy"] == policy]
        freshest = of_policy[of_policy["refresh_s"] == of_policy["refresh_s"].min()]
        mean, low, high = mean_interval(done["ttft_ms"].to_numpy(dtype=float))
        tpot, tpot_low, tpot_high = mean_interval(done["tpot_ms"].dropna().to_numpy(dtype=float))
        slo, slo_low, slo_high = mean_interval(group["slo_met"].to_numpy(dtype=float))
        change = paired_change(beside[beside["policy"] == BASELINE], group, "ttft_ms")
        aged = paired_change(freshest, group, "ttft_ms")
        aged_kv = paired_change(freshest, group, "kv_transfer_ms")
        blind = paired_change(beside[beside["policy"] == WITHOUT_TELEMETRY], group, "ttft_ms")
        moved = done[done["kv_bytes"] > 0]
        error = (moved["predicted_kv_transfer_ms"] - moved["kv_transfer_ms"]).abs() / moved["kv_transfer_ms"]
        rows.append(
            {
                "world": world,
                "workload": workload,
                "policy": policy,
                "refresh_s": refresh,
                "seeds": group["seed"].nunique(),
                "requests": len(group),
                "completed": len(done),
                "ttft_ms": mean,
                "ttft_low_ms": low,
                "ttft_high_ms": high,
                "p99_ttft_ms": done["ttft_ms"].quantile(0.99),
                "ttft_change_percent": change.percent,
                "ttft_change_low": change.low,
                "ttft_change_high": change.high,
                "aged_change_percent": aged.percent,
                "aged_change_low": aged.low,
                "aged_change_high": aged.high,
                "aged_kv_percent": aged_kv.percent,
                "aged_kv_low": aged_kv.low,
                "aged_kv_high": aged_kv.high,
                "blind_change_percent": blind.percent,
                "blind_change_low": blind.low,
                "blind_change_high": blind.high,
                "same_tier": _same_tier(freshest, group),
                "kv_transfer_ms": done["kv_transfer_ms"].mean(),
                "tpot_ms": tpot,
                "tpot_low_ms": tpot_low,
                "tpot_high_ms": tpot_high,
                "slo_attainment": slo,
                "slo_low": slo_low,
                "slo_high": slo_high,
                "oracle_age_ms": done["oracle_age_ms"].mean(),
                "prediction_error": error.median(),
            }
        )
    return pd.DataFrame(rows)


def _same_tier(fresh: pd.DataFrame, aged: pd.DataFrame) -> float:
    """Share of the requests that both sent over the same tier; NaN where there are none."""
    keys = ["seed", "request_id"]
    pairs = fresh[[*keys, "tier"]].merge(aged[[*keys, "tier"]], on=keys)
    return float((pairs["tier_x"] == pairs["tier_y"]).mean())


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
    place = [name for name in ("world", "workload") if results[name].nunique() > 1]
    table.add_column("policy", no_wrap=True)
    for heading in ("refresh", "TTFT ms", "change %", "KV ms", "TBT ms", "SLO %", "age s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results.to_dict("records"):
        swept = not pd.isna(row["refresh_s"])
        change = f"{row['ttft_change_percent']:+.1f} [{row['ttft_change_low']:+.0f}, {row['ttft_change_high']:+.0f}]"
        table.add_row(
            " ".join(str(row[name]) for name in (*place, "policy")),
            "-" if not swept else f"{row['refresh_s']:g} s" if math.isfinite(row["refresh_s"]) else NEVER,
            f"{row['ttft_ms']:.0f}",
            "-" if row["policy"] == BASELINE else change,
            f"{row['kv_transfer_ms']:.0f}",
            f"{row['tpot_ms']:.1f}",
            f"{100 * row['slo_attainment']:.0f}",
            f"{row['oracle_age_ms'] / 1e3:.1f}" if swept else "-",
        )
    return table


def write_results(out: Path, results: pd.DataFrame, question: str = QUESTION) -> Path:
    """The table as a CSV file beside the runs."""
    place = out / f"{question}.csv"
    results.to_csv(place, index=False)
    return place
