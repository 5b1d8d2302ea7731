"""What NetKV saves of the mean TTFT of CLA* once that is tuned in the regime in which both are judged.

    python -m tests.bench.tuned_regimes [--seeds 16] [REGIME ...]

For each regime of `netkv sweep regimes` the search of `netkv tune` (61 weightings, five seeds of 75 requests that no
sweep uses), then CLA* with the weights of the sweep, CLA* with the weights that were found, and NetKV on the requests
and seeds of the sweep's profile `quick`, in the analytic world. A row a regime, in Markdown; intervals are of 95 %, and
p-values corrected by Holm's method over all rows and both policies.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from experiments.analysis.statistics import Estimate, counted, holm, relative_change
from experiments.planning.tuning import DEFAULT_GRIDS, grid_points, ranking, search, tuning_slice
from experiments.questions.regimes import PROFILES, REFERENCE, REGIMES
from experiments.running import RunSpec, make_spec, open_world

JUDGED = ("netkv_static", "netkv_full")
SEARCHED_SEEDS = 5
SIGNIFICANT = 0.05


def spec_of(regime: str, policy: str, seed: int = 0, weights: Mapping[str, float] | None = None) -> RunSpec:
    parameters = {} if weights is None else {"policy_parameters": {policy: dict(weights)}}
    changes = {**PROFILES["quick"].changes, **REGIMES[regime], "world": "analytic", "policy": policy, "seed": seed}
    return make_spec({}, {**changes, **parameters})


def tuned(regime: str) -> dict[str, float]:
    """The weights of CLA* that were best on other requests and seeds of the regime."""
    spec, grid = spec_of(regime, REFERENCE), DEFAULT_GRIDS[REFERENCE]
    part = tuning_slice(spec, None, SEARCHED_SEEDS)
    found = search(spec.model_dump(mode="json"), REFERENCE, grid_points(REFERENCE, grid), part, lambda: None)
    best = ranking(found, list(grid), "mean_ttft_ms").iloc[0]
    return {name: float(best[name]) for name in grid}


def requests_of(regime: str, policy: str, seeds: int, weights: Mapping[str, float] | None = None) -> pd.DataFrame:
    """The requests of all seeds that statistics count."""
    tables = []
    for seed in range(seeds):
        spec = spec_of(regime, policy, seed, weights)
        with open_world(spec) as world:
            table = pd.DataFrame([asdict(record) for record in world.run(spec.scenario).requests])
        tables.append(table.assign(seed=seed, run=str(seed), verdict="valid"))
    return counted(pd.concat(tables, ignore_index=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=len(PROFILES["quick"].seeds))
    parser.add_argument("regimes", nargs="*", metavar="REGIME", help=f"of {', '.join(REGIMES)} (default: all)")
    options = parser.parse_args()
    if unknown := [name for name in options.regimes if name not in REGIMES]:
        parser.error(f"no such regime: {', '.join(unknown)}")
    rows: dict[str, tuple[str, list[Estimate]]] = {}
    for regime in options.regimes or REGIMES:
        weights = tuned(regime)
        own = requests_of(regime, REFERENCE, options.seeds, weights)
        default = requests_of(regime, REFERENCE, options.seeds)
        others = [requests_of(regime, policy, options.seeds) for policy in JUDGED]
        changes = [relative_change(own, other, "ttft_ms") for other in others]
        words = ", ".join(f"{value:g}" for value in weights.values())
        rows[regime] = f"{words} | {default['ttft_ms'].mean():.0f}, {own['ttft_ms'].mean():.0f}", changes
        print(f"{regime}: {rows[regime][0]}", flush=True)
    corrected = holm([change.p() for _, changes in rows.values() for change in changes])
    names = ", ".join(DEFAULT_GRIDS[REFERENCE])
    print(f"| regime | {names} | CLA*, ms: default, tuned | {' | '.join(JUDGED)} | detectable |")
    print("|---|---|---|---|---|---|")
    for number, (regime, (start, changes)) in enumerate(rows.items()):
        cells = []
        for change, p in zip(changes, corrected[2 * number :], strict=False):
            low, high = change.interval()
            text = f"{change.value:+.1f} [{low:+.1f}, {high:+.1f}]"
            cells.append(f"**{text}**" if p < SIGNIFICANT else text)
        print(f"| {regime} | {start} | {' | '.join(cells)} | {changes[-1].detectable():.1f} |")


if __name__ == "__main__":
    main()
