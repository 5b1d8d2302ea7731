"""The claims that the paper proves (C1, C2, C3), each with what theory says of our reconstruction and what runs show.

Theory alone never decides a verdict here: a bound that holds on paper and not in runs is of no use to an operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments.analysis import (
    Estimate,
    available,
    growth,
    largest_error,
    longest_staleness_s,
    mean_interval,
    relative_change,
    share_alike,
    single_ratio,
    tokens_beyond,
)
from experiments.claims.claim import CLAIMS, ClaimVerdict, Verdict
from experiments.claims.comparisons import POLICY, Sweep, aged, compare
from experiments.claims.up_to import decided, not_measured
from scenario import ModelSpec

CACHE_AWARE = "ca"
RATIOS = (2.0, 10.0, 100.0, 1000.0)
"""How many times as slow cache-aware-only has to become at some context, for C1's family of congested holders."""

FAMILY_CACHED, FAMILY_NIC_BPS, FAMILY_FIXED_S = 512, 25e9, 0.030
"""One cached block, a NIC of 200 Gbit/s, a decode step: the constants of docs/theory.md."""

TTFT_MARGIN_PERCENT = 5.0
"""A change of the mean TTFT within this is none in practice. Ours: the paper gives no test."""

EXAMPLE_CAPACITY, EXAMPLE_USE, EXAMPLE_RATE = (25.0, 12.5), (0.5, 0.2), 0.02
"""The example of docs/theory.md: GB/s, utilisation, and how fast that may change a second."""


def herding(sweeps: Sequence[Sweep], world: str) -> ClaimVerdict:
    """C1: `ca` against NetKV-Full, where `ca` was run."""
    slower = compare(sweeps, world, (CACHE_AWARE,), lambda cache_aware, ours: _ttft_change(ours, cache_aware))
    steeper = compare(sweeps, world, (CACHE_AWARE,), lambda cache_aware, ours: _per_1000_tokens(ours, cache_aware))
    pairs = [
        (one, other)
        for one, other in zip(slower, steeper, strict=True)
        if not math.isnan(one.estimate.error) and not math.isnan(other.estimate.error)
    ]
    if not pairs:
        return not_measured("C1", world, f"both {CACHE_AWARE} and {POLICY}", "prefix")
    tests = 2 * len(pairs)
    lows = [(one.estimate.interval(tests)[0], other.estimate.interval(tests)[0]) for one, other in pairs]
    both = [place for place, (low, slope) in enumerate(lows) if low > 0 and slope > 0]
    which = max(both or range(len(pairs)), key=lambda place: pairs[place][0].estimate.value)
    verdict: Verdict = "inconclusive"
    if both and arbitrarily_bad():
        verdict = "reproduced"
    elif all(one.estimate.interval(tests)[1] <= 0 for one, _ in pairs):
        verdict = "not reproduced"
    times = 1 + pairs[which][0].estimate.value / 100
    sentence = (
        f"Theory: the family of docs/theory.md is {RATIOS[-1]:g} times as slow beyond"
        f" {context_beyond(RATIOS[-1]):,.0f} tokens. Runs: {CACHE_AWARE}'s mean TTFT is {times:.3g} times netkv_full's"
        f" at {pairs[which][0].at()}; it is slower for certain in {sum(low > 0 for low, _ in lows)} of {len(pairs)}"
        f" comparisons, and the more so the longer the prompt in {sum(slope > 0 for _, slope in lows)}."
    )
    return decided("C1", world, verdict, sentence, [other for _, other in pairs] + [one for one, _ in pairs], which)


def arbitrarily_bad() -> bool:
    """Whether C1's family exceeds each of `RATIOS` at a finite context, by the formulas of `analysis.theory`."""
    return all(
        math.isfinite(tokens := context_beyond(ratio)) and _family(ratio, 1.001 * tokens + 1) > ratio
        for ratio in RATIOS
    )


def context_beyond(ratio: float) -> float:
    """The prompt from which on a holder with 2 x `ratio` foreign flows is more than `ratio` times as slow."""
    kappa = ModelSpec().kv_bytes_per_token
    holder_Bps = FAMILY_NIC_BPS / (1 + 2 * ratio)
    return tokens_beyond(ratio, FAMILY_CACHED, kappa, holder_Bps, FAMILY_NIC_BPS, FAMILY_FIXED_S)


def _family(ratio: float, tokens: float) -> float:
    kappa = ModelSpec().kv_bytes_per_token
    holder_Bps = FAMILY_NIC_BPS / (1 + 2 * ratio)
    return single_ratio(tokens, FAMILY_CACHED, kappa, holder_Bps, FAMILY_NIC_BPS, FAMILY_FIXED_S)


def complexity(sweeps: Sequence[Sweep], world: str) -> ClaimVerdict:
    """C2: how the median decision grows with the fabric, seed by seed."""
    found = []
    for sweep in sweeps:
        here = sweep.requests[(sweep.requests["world"] == world) & (sweep.requests["policy"] == POLICY)]
        if "gpus" in sweep.labels and here["gpus"].nunique() > 1:
            found.append((sweep, *_slopes(here)))
    known = [(sweep, sizes, slopes, medians) for sweep, sizes, slopes, medians in found if len(slopes) > 1]
    if not known:
        return not_measured("C2", world, f"{POLICY} on two sizes of fabric with two seeds", "scale")
    sweep, sizes, slopes, medians = max(known, key=lambda item: (item[1][-1], len(item[2])))
    value, low, high = mean_interval(slopes)
    bound = CLAIMS["C2"].figure or 1.0
    verdict: Verdict = "reproduced" if high <= bound else "not reproduced" if low > bound else "inconclusive"
    sentence = (
        f"A decision takes {medians.iloc[0]:.0f} us at {sizes[0]} GPUs and {medians.iloc[-1]:.0f} us at {sizes[-1]}: it"
        f" grows as |D| to the power of {value:.2f} ({len(slopes)} seeds). docs/theory.md has it up to |D| = 4,096."
    )
    runs = sweep.requests.loc[(sweep.requests["world"] == world) & (sweep.requests["policy"] == POLICY), "run"]
    return ClaimVerdict(
        "C2", world, verdict, sentence, value, low, high, Estimate(value, _error(slopes), len(slopes), 0).p(bound), 1,
        len(slopes), {"question": sweep.question, "gpus": f"{sizes[0]} to {sizes[-1]}"}, sweep.folder,
        tuple(sorted(runs.unique())),
    )  # fmt: skip


def _slopes(requests: pd.DataFrame) -> tuple[list[int], np.ndarray[tuple[int], np.dtype[np.float64]], pd.Series[float]]:
    """The sizes, a least-squares slope a seed, and the median decision of each size, microseconds.

    |D| is proportional to the GPUs: half of the instances decode.
    """
    by_seed = requests.groupby(["seed", "gpus"])["decision_us"].median().unstack("gpus").dropna()
    sizes = [int(size) for size in by_seed.columns]
    rises = np.polyfit(np.log(sizes), np.log(by_seed.to_numpy(dtype=float)).T, 1)[0] if len(by_seed) else np.empty(0)
    return sizes, rises, by_seed.median()


def _error(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def robustness(sweeps: Sequence[Sweep], world: str) -> ClaimVerdict:
    """C3: tiers kept and TTFT unmoved at every age of the view."""
    kept = aged(sweeps, world, lambda fresh, old: _percent(share_alike(fresh, old, "tier")))
    moved = aged(sweeps, world, _ttft_change)
    if not kept or any(math.isnan(comparison.estimate.error) for comparison in (*kept, *moved)):
        return not_measured("C3", world, f"{POLICY} at two refresh intervals", "staleness")
    tests = len(kept) + len(moved)
    share = CLAIMS["C3"].figure or 90.0
    tiers = [comparison.estimate.interval(tests) for comparison in kept]
    ttft = [comparison.estimate.interval(tests) for comparison in moved]
    worst = min(range(len(kept)), key=lambda place: kept[place].estimate.value)
    lost = sum(high < share for _, high in tiers)
    left = sum(low > TTFT_MARGIN_PERCENT or high < -TTFT_MARGIN_PERCENT for low, high in ttft)
    inside = sum(low >= -TTFT_MARGIN_PERCENT and high <= TTFT_MARGIN_PERCENT for low, high in ttft)
    holds = all(low >= share for low, _ in tiers) and inside == len(ttft)
    verdict: Verdict = (
        "not reproduced" if lost or left else "reproduced" if holds and bound_is_exact() else "inconclusive"
    )
    far = max(range(len(moved)), key=lambda place: abs(moved[place].estimate.value))
    ends = ttft[far]
    sentence = (
        f"Theory: the order of tiers holds while a sample is younger than eps* / r ({example_limit_s():.2f} s in the"
        f" example of docs/theory.md), and congestion that comes at once has no r. Runs: the fewest tiers are kept at"
        f" {kept[worst].at()}; below {share:g} % for certain in {lost} of {len(kept)} comparisons. Mean TTFT moves most"
        f" at {moved[far].at()}, by {moved[far].estimate.value:+.1f} % [{ends[0]:+.1f}, {ends[1]:+.1f}]; it stays"
        f" within {TTFT_MARGIN_PERCENT:g} % for certain in {inside}, and leaves that for certain in {left}."
    )
    return decided("C3", world, verdict, sentence, [*kept, *moved], worst, truth=share)


def example_limit_s() -> float:
    return longest_staleness_s(largest_error(EXAMPLE_CAPACITY, EXAMPLE_USE), EXAMPLE_RATE)


def bound_is_exact() -> bool:
    """Whether the order of the example's tiers holds just below the theorem's bound, and has changed just beyond it."""
    error = largest_error(EXAMPLE_CAPACITY, EXAMPLE_USE)

    def in_order(wrong: float) -> bool:
        first, second = available(EXAMPLE_CAPACITY, (EXAMPLE_USE[0] + wrong, EXAMPLE_USE[1] - wrong))
        return first > second

    return in_order(0.999 * error) and not in_order(1.001 * error)


def _ttft_change(base: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    return relative_change(base, other, "ttft_ms")


def _per_1000_tokens(base: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    found = growth(base, other, "ttft_ms", "input_length")
    return Estimate(1000 * found.value, 1000 * found.error, found.units, found.pairs)


def _percent(found: Estimate) -> Estimate:
    return Estimate(100 * found.value, 100 * found.error, found.units, found.pairs)
