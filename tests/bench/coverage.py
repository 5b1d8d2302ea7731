"""How often the intervals of `experiments.analysis.statistics` hold the truth, and how long a run takes to warm up.

    python -m tests.bench.coverage [--seeds 400] [--draws 400] [PROFILE ...]

Runs the analytic world on many seeds of the staleness sweep's two profiles; all seeds together are the truth. Then a
comparison is made of a few seeds drawn at random, again and again, and its nominal 95 % intervals are counted that
hold the truth: those of `experiments.analysis`, and those of a bootstrap over requests as if they were independent.
Then Fieller's interval of the share of telemetry's gain that an older snapshot keeps, counted in the same way. Last,
`random` against itself with other draws: how often a difference is found where there is none.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.retained_gain import retained_gain
from experiments.analysis.statistics import SHARE_DIFFERENCE, Estimate, counted, difference, relative_change
from experiments.running.run_spec import make_spec
from experiments.running.summary import slo_met
from experiments.running.worlds import open_world
from scheduler.candidates import Candidates
from scheduler.view import View
from tests.support.staleness_set_up import STALENESS, set_up_of
from workloads import Request

PROFILES = {name: set_up_of(name) for name in STALENESS.profiles}
"""Those of `netkv sweep staleness`: about 15 s and 118 s of arrivals."""

BASE, OTHER = "round_robin", "netkv_full"
STATIC = "netkv_static"
FRESH_S, AGED_S = 0.1, {"quick": 1.0, "full": 5.0}
"""Refresh intervals of the two snapshots whose gains are compared, s: 1.3 and 2 times the time scale of congestion."""
AGAIN = "tests.bench.coverage:RandomAgain"
SEEDS_IN_A_STUDY = (1, 2, 3, 5, 10)
AT_ONCE = 50
"""Comparisons that are corrected for, for the chance of an interval of one of them: 99.9 %."""

Measure = Callable[[pd.DataFrame, pd.DataFrame], Estimate]
FIGURES: dict[str, Measure] = {
    "mean TTFT, %": lambda base, other: relative_change(base, other, "ttft_ms"),
    "p99 TTFT, %": lambda base, other: relative_change(base, other, "ttft_ms", percentile=99),
    "mean TPOT, ms": lambda base, other: difference(base, other, "tpot_ms", completed=True),
    "SLO, share": lambda base, other: difference(base, other, "slo_met", completed=False, bounds=SHARE_DIFFERENCE),
}


class RandomAgain:
    """`random` with other draws: the same requests, the same traffic, and no reason for any difference."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        able = candidates.decode_id[candidates.feasible]
        return int(able[view.rng.integers(len(able), size=2)[1]])


def simulate(profile: str, policies: Iterable[str], seeds: int, **changes: Any) -> dict[str, pd.DataFrame]:
    """The requests of every seed by policy; `changes` of the profile's fields, with __ for a dot."""
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    tables: dict[str, list[pd.DataFrame]] = {policy: [] for policy in policies}
    for seed in range(seeds):
        for policy, runs in tables.items():
            spec = make_spec({}, {**PROFILES[profile], **changed, "world": "analytic", "policy": policy, "seed": seed})
            with open_world(spec) as world:
                table = pd.DataFrame([asdict(record) for record in world.run(spec.scenario).requests])
            runs.append(table.assign(seed=seed, run=str(seed), verdict="valid", slo_met=slo_met(table, spec.slo)))
    return {policy: pd.concat(runs, ignore_index=True) for policy, runs in tables.items()}


def warm_up(tables: dict[str, pd.DataFrame]) -> str:
    """Each tenth of the requests: mean TTFT and KV transfer of both policies, and the change between them."""
    means = {}
    for policy, table in tables.items():
        tenth = (10 * table["request_id"] // table["request_id"].nunique()).rename("tenth")
        means[policy] = table.groupby(tenth)[["ttft_ms", "kv_transfer_ms"]].mean()
    ttft = {policy: found["ttft_ms"] for policy, found in means.items()}
    lines = ["tenth           " + "".join(f"{tenth + 1:>8}" for tenth in means[BASE].index)]
    lines += [f"{policy:<16}" + "".join(f"{value:>8.0f}" for value in found) for policy, found in ttft.items()]
    lines += ["change, %       " + "".join(f"{value:>+8.1f}" for value in 100 * (ttft[OTHER] / ttft[BASE] - 1))]
    lines += ["transfer of RR  " + "".join(f"{value:>8.0f}" for value in means[BASE]["kv_transfer_ms"])]
    return "\n".join(lines)


def cut_effect(tables: dict[str, pd.DataFrame]) -> str:
    """What the warm-up cut does to the figures."""
    kept = {policy: counted(table) for policy, table in tables.items()}
    changes = [relative_change(found[BASE], found[OTHER], "ttft_ms").value for found in (tables, kept)]
    levels = [found[BASE]["ttft_ms"].mean() for found in (tables, kept)]
    return (
        f"with the cut: mean TTFT of {BASE} {levels[0]:.0f} -> {levels[1]:.0f} ms"
        f" ({100 * (levels[1] / levels[0] - 1):+.1f} %), change {changes[0]:+.2f} -> {changes[1]:+.2f} %"
    )


def studies(table: pd.DataFrame, seeds: int, draws: int, rng: np.random.Generator) -> Iterable[np.ndarray[Any, Any]]:
    known = table["seed"].unique()
    return (rng.choice(known, seeds, replace=False) for _ in range(draws))


def _of(by_seed: Mapping[Any, pd.DataFrame], drawn: Iterable[int]) -> pd.DataFrame:
    return pd.concat([by_seed[seed] for seed in drawn])


def naive(base: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """The change of mean TTFT with every request a unit of its own: the linearised ratio, as a bootstrap would have."""
    pairs = base.merge(other, on=["seed", "request_id"])
    before, after = pairs["ttft_ms_x"].to_numpy(), pairs["ttft_ms_y"].to_numpy()
    ratio = after.mean() / before.mean()
    error = float(np.std(after - ratio * before, ddof=1)) / math.sqrt(len(pairs)) / before.mean()
    return Estimate(100 * (ratio - 1), 100 * error, len(pairs), len(pairs))


def coverage(tables: dict[str, pd.DataFrame], draws: int) -> str:
    """Per figure and number of seeds: how many of 100 intervals hold the truth, and their median width."""
    by_seed = {policy: dict(list(counted(table).groupby("seed"))) for policy, table in tables.items()}
    whole = [counted(tables[policy]) for policy in (BASE, OTHER)]
    lines = [f"{'seeds':<28}" + "".join(f"{seeds:>18}" for seeds in SEEDS_IN_A_STUDY)]
    rows = {"mean TTFT, %, by request": naive, **FIGURES, f"mean TTFT, % of {AT_ONCE}": FIGURES["mean TTFT, %"]}
    for name, measure in rows.items():
        at_once = AT_ONCE if name.endswith(f"of {AT_ONCE}") else 1
        truth = FIGURES["mean TTFT, %"](*whole).value if measure is naive else measure(*whole).value
        cells = []
        for seeds in SEEDS_IN_A_STUDY:
            rng = np.random.default_rng(seeds)
            found = []
            for drawn in studies(whole[0], seeds, draws, rng):
                low, high = measure(_of(by_seed[BASE], drawn), _of(by_seed[OTHER], drawn)).interval(at_once)
                found.append((low <= truth <= high, high - low))
            held, widths = np.array(found).T
            cells.append(f"{100 * held.mean():>8.1f} ({np.median(widths):.3g})")
        lines.append(f"{name:<28}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def coverage_of_kept(profile: str, seeds: int, draws: int) -> str:
    """Likewise Fieller's interval of the share of telemetry's gain that is kept, and how many have no end."""
    runs = [
        simulate(profile, (STATIC,), seeds)[STATIC],
        *(simulate(profile, (OTHER,), seeds, oracle__refresh_s=age_s)[OTHER] for age_s in (FRESH_S, AGED_S[profile])),
    ]
    whole = [counted(table) for table in runs]
    by_seed = [dict(list(table.groupby("seed"))) for table in whole]
    truth = retained_gain(*whole, "ttft_ms")[1].value
    cells = []
    for count in SEEDS_IN_A_STUDY:
        rng = np.random.default_rng(count)
        found = []
        for drawn in studies(whole[0], count, draws, rng):
            first, fresh, aged = (_of(tables, drawn) for tables in by_seed)
            kept = retained_gain(first, fresh, aged, "ttft_ms")[1]
            found.append((kept.low <= truth <= kept.high, kept.high - kept.low))
        held, widths = np.array(found).T
        cells.append(f"{100 * held.mean():>8.1f} ({np.median(widths):.3g}, {100 * np.isinf(widths).mean():.0f})")
    head = f"kept of telemetry's gain at {AGED_S[profile]:g} s, %: {truth:.1f} (median width; of 100 without an end)"
    return head + "\n" + " " * 28 + "".join(f"{cell:>18}" for cell in cells)


def false_findings(tables: dict[str, pd.DataFrame], draws: int) -> str:
    """How many of 100 comparisons of a policy with itself have a p-value below 0.05."""
    by_seed = {policy: dict(list(counted(table).groupby("seed"))) for policy, table in tables.items()}
    first, again = by_seed.values()
    cells = []
    for seeds in SEEDS_IN_A_STUDY:
        rng = np.random.default_rng(seeds)
        p_values = [
            relative_change(_of(first, drawn), _of(again, drawn), "ttft_ms").p()
            for drawn in studies(tables["random"], seeds, draws, rng)
        ]
        cells.append(f"{100 * np.mean(np.array(p_values) < 0.05):>18.0f}")
    return f"{'false findings':<28}" + "".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=400, help="seeds that make the truth")
    parser.add_argument("--draws", type=int, default=400, help="studies drawn from them")
    parser.add_argument("profiles", nargs="*", metavar="PROFILE", help=f"of {', '.join(PROFILES)} (default: all)")
    options = parser.parse_args()
    if unknown := [name for name in options.profiles if name not in PROFILES]:
        parser.error(f"no such profile: {', '.join(unknown)}")
    for profile in options.profiles or PROFILES:
        tables = simulate(profile, (BASE, OTHER), options.seeds)
        print(f"\n{profile}: mean TTFT by tenth of the run, ms\n{warm_up(tables)}\n{cut_effect(tables)}", flush=True)
        print(f"\n{profile}: intervals of 100 that hold the truth (median width)\n{coverage(tables, options.draws)}")
        print(coverage_of_kept(profile, options.seeds, options.draws), flush=True)
        print(false_findings(simulate(profile, ("random", AGAIN), options.seeds), options.draws), flush=True)


if __name__ == "__main__":
    main()
