"""What each kind of telemetry costs NetKV-Full in the analytic world: mean TTFT by oracle preset.

    python -m tests.bench.telemetry_kinds [--seeds 3] [--requests 800]

The scenario is that of `netkv sweep staleness --profile quick`, a hot spot that moves, with more requests, and beside
it one that moves ten times as slowly. Rows: each preset; telemetry of the very instant; NetKV-Static, which reads none.
Changes are paired by seed, against NetKV-Static; the share kept is of the gain at the very instant.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from experiments.running import make_spec, open_world
from scenario import TELEMETRY_PRESETS
from tests.support.staleness_set_up import set_up_of

PERIODS_S = (1.5, 15.0)
STATIC, EXACT = "netkv_static", "the very instant"
ROWS: dict[str, Mapping[str, Any]] = {
    STATIC: {"policy": STATIC, "oracle.source": "static"},
    EXACT: {"policy": "netkv_full", "oracle.source": "exact", "oracle.refresh_s": 0.01},
    **{name: {"policy": "netkv_full", "oracle.preset": name} for name in TELEMETRY_PRESETS},
}


def run(row: str, period_s: float, seed: int, requests: int) -> tuple[float, float]:
    """Mean TTFT, ms, and mean age of the telemetry in use, s."""
    changes = {
        **set_up_of("quick"),
        **{"world": "analytic", "workload.requests": requests, "congestion.period_s": period_s, "seed": seed},
        **ROWS[row],
    }
    spec = make_spec({}, changes)
    with open_world(spec) as world:
        outcome = world.run(spec.scenario)
    done = [one for one in outcome.requests if one.status == "completed"]
    ages_s = [one.oracle_age_ms / 1e3 for one in done if np.isfinite(one.oracle_age_ms)]
    return float(np.mean([one.ttft_ms for one in done])), float(np.mean(ages_s)) if ages_s else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=800)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    cases = [(row, period_s, seed) for period_s in PERIODS_S for row in ROWS for seed in range(options.seeds)]
    with ProcessPoolExecutor(options.jobs) as pool:
        made = [pool.submit(run, *case, options.requests) for case in cases]
        found = {case: one.result() for case, one in zip(cases, made, strict=True)}
    for period_s in PERIODS_S:
        print(f"hot spot moves every {period_s:g} s: tau = {period_s / 2:g} s")
        print("  telemetry         mean age, s   mean TTFT, ms   change %   kept %")
        of = {row: np.array([found[row, period_s, seed] for seed in range(options.seeds)]) for row in ROWS}
        whole = (of[EXACT][:, 0] - of[STATIC][:, 0]).mean()
        for row, values in of.items():
            gain = values[:, 0] - of[STATIC][:, 0]
            change = 100 * (gain / of[STATIC][:, 0]).mean()
            age_s = f"{values[:, 1].mean():.2f}" if row != STATIC else "-"
            kept = f"{100 * gain.mean() / whole:.0f}" if row != STATIC else "-"
            print(f"  {row:<18}{age_s:>11}{values[:, 0].mean():>16.0f}{change:>11.1f}{kept:>9}")


if __name__ == "__main__":
    main()
