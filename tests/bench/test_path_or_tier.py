"""Which view of congestion NetKV-Full should have: each link of a path, or one mean for all links of a tier.

Run with `pytest tests/bench/test_path_or_tier.py -q -s`. Analytic world, the generator's conversation, 800 requests a
run, five seeds; the table gives the mean KV transfer and the change of mean TTFT against NetKV-Static, which sees no
congestion at all.
"""

from __future__ import annotations

import numpy as np
import pytest

from scenario import CongestionSpec, OracleSpec, Scenario, WorkloadSpec
from simulator.analytic_world import AnalyticWorld
from topologies import FabricSpec

SEEDS = (0, 1, 2, 3, 4)
FABRICS = [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)]
CONGESTION = ["none", "onoff"]
WAYS = {"static": ("netkv_static", "path"), "tier": ("netkv_full", "tier"), "path": ("netkv_full", "path")}


def measure(kind: str, ratios: tuple[float, float], way: str) -> tuple[float, float]:
    """Mean TTFT and mean KV transfer, milliseconds, over the seeds."""
    policy, view = WAYS[way]
    ttft_ms, transfer_ms = [], []
    for seed in SEEDS:
        scenario = Scenario(
            fabric=FabricSpec(tor_oversubscription=ratios[0], aggregation_oversubscription=ratios[1]),
            workload=WorkloadSpec(requests=800),
            congestion=CongestionSpec.model_validate({"kind": kind}),
            oracle=OracleSpec.model_validate({"view": view}),
            policy=policy,
            seed=seed,
        )
        with AnalyticWorld(scenario) as world:
            records = world.run(scenario).requests
        ttft_ms += [record.ttft_ms for record in records]
        transfer_ms += [record.kv_transfer_ms for record in records]
    return float(np.mean(ttft_ms)), float(np.mean(transfer_ms))


@pytest.mark.timeout(900)
def test_the_path_level_view_is_worth_its_links() -> None:
    print("\ncongestion  ratio      KV transfer, ms            TTFT against static, %")
    print("            ToR:agg  static    tier    path          tier    path")
    ahead = []
    for kind in CONGESTION:
        for ratios in FABRICS:
            found = {way: measure(kind, ratios, way) for way in WAYS}
            transfer = {way: both[1] for way, both in found.items()}
            change = {way: 100 * (both[0] / found["static"][0] - 1) for way, both in found.items()}
            print(
                f"{kind:10}  {ratios[0]:g}:{ratios[1]:<5g}  {transfer['static']:6.1f}  {transfer['tier']:6.1f}"
                f"  {transfer['path']:6.1f}        {change['tier']:+6.2f}  {change['path']:+6.2f}"
            )
            if kind != "none":
                ahead.append(transfer["path"] / transfer["tier"])
    assert np.mean(ahead) < 1
