"""What Dynamo's own router gains by topology, and by NetKV's costs told as weights: docs/explanation/real-routers.md.

    python -m tests.bench.narrow_interface [--trace PATH] [--requests N] [--seeds N] [CASE ...]

Needs `make routers`. Analytic world; every line has the same requests, background traffic and paths under another
policy, its mean TTFT and KV transfer, the change of mean TTFT against Dynamo's router by itself, and the share of
NetKV-Full's gain over that router which it has, each with its 95 % interval over the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis import Interval, paired_change, retained_gain
from scenario import Scenario
from simulator.analytic_world import AnalyticWorld

BLIND, FULL = "router by itself", "netkv_full"

Policy = tuple[str, Mapping[str, float]]

POLICIES: Mapping[str, Policy] = {
    BLIND: ("dynamo_router", {}),
    "the same, output blocks reported": ("dynamo_router", {"output_blocks": 1}),
    "rack preferred, .85": ("dynamo_router_topology", {}),
    "rack preferred, 3": ("dynamo_router_topology", {"preferred": 3}),
    "rack required": ("dynamo_router_topology", {"required": 1}),
    "NetKV as weights, sharpness 1": ("dynamo_router_netkv", {}),
    "NetKV as weights, sharpness 4": ("dynamo_router_netkv", {"sharpness": 4}),
    "netkv_static": ("netkv_static", {}),
    FULL: ("netkv_full", {}),
}
"""What is compared, by its name in the table."""

CASES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "4:1 at both levels": {"fabric": {"tor_oversubscription": 4, "aggregation_oversubscription": 4}},
    "hot spot": {"congestion": {"kind": "hotspot"}},
    "racks apart": {"serving": {"placement": "racks"}},
    "three decode slots": {"serving": {"batch_slots": 3}, "workload": {"max_output_tokens": 256}},
}


def requests_of(case: str, policy: Policy, seeds: int, requests: int, trace: Path | None) -> pd.DataFrame:
    """The requests of every seed: their status, TTFT and KV transfer in ms."""
    name, parameters = policy
    runs = []
    for seed in range(seeds):
        workload = {"requests": requests, **CASES[case].get("workload", {})}
        if trace is not None:
            workload["trace"] = trace
        fields = {**CASES[case], "workload": workload, "policy": name, "policy_parameters": {name: dict(parameters)}}
        scenario = Scenario.model_validate({**fields, "seed": seed})
        with AnalyticWorld(scenario) as world:
            records = world.run(scenario).requests
        columns = ("request_id", "status", "ttft_ms", "kv_transfer_ms")
        runs.append(pd.DataFrame({column: [getattr(one, column) for one in records] for column in columns}))
        runs[-1]["seed"] = seed
    return pd.concat(runs, ignore_index=True)


def shown(found: Interval) -> str:
    return f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of: {', '.join(CASES)} (default: all)")
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    if unknown := [case for case in options.cases if case not in CASES]:
        parser.error(f"no such case: {', '.join(unknown)}")
    for case in options.cases or CASES:
        print(f"\n{case}: {options.requests} requests, {options.seeds} seeds\n")
        print("| policy | TTFT ms | KV ms | TTFT, % | of NetKV-Full's gain, % | turned away |\n" + "|---" * 6 + "|")
        size = (options.seeds, options.requests, options.trace)
        by_name = {name: requests_of(case, policy, *size) for name, policy in POLICIES.items()}
        for name, rows in by_name.items():
            done = rows[rows["status"] == "completed"]
            change = paired_change(by_name[BLIND], rows, "ttft_ms")
            _, share = retained_gain(by_name[BLIND], by_name[FULL], rows, "ttft_ms")
            cells = (
                name,
                f"{done['ttft_ms'].mean():.0f}",
                f"{done['kv_transfer_ms'].mean():.0f}",
                "" if name == BLIND else shown(Interval.of_change(change)),
                "" if name in (BLIND, FULL) else shown(share),
                f"{np.mean(rows['status'] != 'completed'):.1%}",
            )
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
