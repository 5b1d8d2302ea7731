"""What it brings to believe a snapshot less as it gets older: NetKV-Full and NetKV-Fresh beside NetKV-Static.

Run with `pytest tests/bench/test_fresh.py -q -s`. Analytic world, the generator's conversation, 800 requests a run,
five seeds; the table gives the change of the mean KV transfer and of the mean TTFT against NetKV-Static, %.
"""

from __future__ import annotations

import numpy as np
import pytest

from scenario import CongestionSpec, OracleSpec, Scenario, WorkloadSpec
from simulator.analytic_world import AnalyticWorld

SEEDS = (0, 1, 2, 3, 4)
PERIODS_S = (2.0, 15.0)
REFRESH_S = (0.1, 1.0, 5.0, 30.0, 60.0)
KINDS: dict[str, dict[str, object]] = {
    **{f"onoff {period:g} s": {"kind": "onoff", "mean_on_s": period, "mean_off_s": period} for period in PERIODS_S},
    "hotspot 1.5 s": {"kind": "hotspot", "period_s": 1.5},
    "constant": {"kind": "constant"},
}


def measure(policy: str, congestion: dict[str, object], refresh_s: float) -> np.ndarray:
    """Mean KV transfer and mean TTFT over the seeds, milliseconds."""
    told = []
    for seed in SEEDS:
        scenario = Scenario(
            workload=WorkloadSpec(requests=800, max_output_tokens=256),
            congestion=CongestionSpec.model_validate(congestion),
            oracle=OracleSpec(refresh_s=refresh_s),
            policy=policy,
            seed=seed,
        )
        with AnalyticWorld(scenario) as world:
            told += [(one.kv_transfer_ms, one.ttft_ms) for one in world.run(scenario).requests]
    found: np.ndarray = np.mean(told, axis=0)
    return found


@pytest.mark.timeout(900)
def test_an_old_snapshot_costs_fresh_less_than_full() -> None:
    print("\ncongestion      refresh    KV transfer, %     TTFT, %")
    print("                             full   fresh     full   fresh")
    kept = []
    for name, congestion in KINDS.items():
        static = measure("netkv_static", congestion, 1.0)
        for refresh_s in REFRESH_S:
            full, fresh = (
                100 * (measure(policy, congestion, refresh_s) / static - 1) for policy in ("netkv_full", "netkv_fresh")
            )
            print(
                f"{name:14}  {refresh_s:5g} s  {full[0]:+6.1f}  {fresh[0]:+6.1f}   {full[1]:+6.2f}  {fresh[1]:+6.2f}",
                flush=True,
            )
            kept.append(fresh[0] - full[0])
    assert np.mean(kept) < 0
