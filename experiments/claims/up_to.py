"""The claims with a number: `up to` (C4, C5, C6), decided by the best configuration, and `in every condition` (C7).

All configurations looked at are corrected for: their intervals hold together (Bonferroni), so that the best of many is
not taken at its face value. `up to` F is *reproduced* where the interval of the best configuration reaches F and does
not reach below F / 2, *not reproduced* where no interval reaches F; `below B everywhere` is reproduced where all
intervals stay below B, not reproduced where one stays above it. That none reaches F, or that all stay below B, takes
`LEAST_CONFIGURATIONS` to say. All else is inconclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from experiments.analysis import Estimate, difference, holm, relative_change
from experiments.claims.claim import CLAIMS, ClaimVerdict, Verdict
from experiments.claims.comparisons import Comparison, Sweep, compare

ROUND_ROBIN, CLA_STAR = "round_robin", "cla_star"
CLAIMED_GPUS = 64
"""C4 names the size of its fabric."""

LEAST_SHARE = 0.5
"""An interval that also holds figures below this share of the paper's decides nothing, however high it reaches."""


LEAST_CONFIGURATIONS = 4
"""Workloads or values of what is varied; refresh intervals of one configuration count once. The emulated topology sweep
of the quick profile has just so many."""


def ttft_saved(sweeps: Sequence[Sweep], world: str) -> list[ClaimVerdict]:
    """C4 and C5."""
    against_round_robin, against_cla_star = (
        compare(sweeps, world, (baseline,), _saved) for baseline in (ROUND_ROBIN, CLA_STAR)
    )
    as_claimed = [comparison for comparison in against_round_robin if comparison.gpus == CLAIMED_GPUS]
    return [
        _up_to("C4", world, as_claimed, f"both netkv_full and {ROUND_ROBIN} on {CLAIMED_GPUS} GPUs", "topology"),
        _up_to("C5", world, against_cla_star, f"both netkv_full and {CLA_STAR}", "topology"),
    ]


def slo_gained(sweeps: Sequence[Sweep], world: str) -> ClaimVerdict:
    """C6. The abstract does not say against whom: both references are looked at."""
    found = compare(sweeps, world, (ROUND_ROBIN, CLA_STAR), _points)
    return _up_to("C6", world, found, f"netkv_full with {ROUND_ROBIN} or {CLA_STAR}", "topology")


def tbt_overhead(sweeps: Sequence[Sweep], world: str) -> ClaimVerdict:
    """C7, in the worst configuration."""
    found = _known(compare(sweeps, world, (ROUND_ROBIN, CLA_STAR), _overhead_ms))
    if not found:
        return not_measured("C7", world, f"netkv_full with {ROUND_ROBIN} or {CLA_STAR}", "topology")
    bound = CLAIMS["C7"].figure or 0.0
    ends = [comparison.estimate.interval(len(found)) for comparison in found]
    above = [place for place, (low, _) in enumerate(ends) if low > bound]
    worst = max(above or range(len(found)), key=lambda place: found[place].estimate.value)
    verdict: Verdict = "inconclusive"
    if above:
        verdict = "not reproduced"
    elif all(high < bound for _, high in ends) and _are_enough(found):
        verdict = "reproduced"
    over = sum(comparison.estimate.value >= bound for comparison in found)
    sentence = (
        f"The overhead is largest at {found[worst].at()}; it is {bound:g} ms or more in {over} of"
        f" {len(found)} comparisons, for certain in {len(above)}.{_caution(found)}"
    )
    return decided("C7", world, verdict, sentence, found, worst, truth=bound)


def decided(
    claim: str, world: str, verdict: Verdict, sentence: str, found: Sequence[Comparison], which: int, truth: float = 0.0
) -> ClaimVerdict:
    """A verdict with the numbers of the comparison that decides it; `truth`: what its p-value is of."""
    chosen = found[which]
    low, high = chosen.estimate.interval(len(found))
    return ClaimVerdict(
        claim,
        world,
        verdict,
        sentence,
        value=chosen.estimate.value,
        low=low,
        high=high,
        p=holm([comparison.estimate.p(truth) for comparison in found])[which],
        comparisons=len(found),
        seeds=chosen.seeds,
        configuration=chosen.configuration,
        sweep=chosen.sweep,
        runs=chosen.runs,
    )


def not_measured(claim: str, world: str, needs: str, question: str) -> ClaimVerdict:
    command = f"netkv sweep {question} --world {world}"
    return ClaimVerdict(claim, world, "inconclusive", f"not measured: no valid runs of {needs}: run `{command}`")


def _up_to(claim: str, world: str, compared: Sequence[Comparison], needs: str, question: str) -> ClaimVerdict:
    found = _known(compared)
    if not found:
        return not_measured(claim, world, needs, question)
    figure = CLAIMS[claim].figure or 0.0
    ends = [comparison.estimate.interval(len(found)) for comparison in found]
    best = max(range(len(found)), key=lambda place: found[place].estimate.value)
    low, high = ends[best]
    verdict: Verdict = "inconclusive"
    if high >= figure and low >= LEAST_SHARE * figure:
        verdict = "reproduced"
    elif max(high for _, high in ends) < figure and _are_enough(found):
        verdict = "not reproduced"
    reached = sum(comparison.estimate.value >= figure for comparison in found)
    sure = sum(low > 0 for low, _ in ends)
    sentence = (
        f"The best of {len(found)} comparisons is at {found[best].at()}; {reached} reach {figure:g}, a gain is certain"
        f" in {sure}, the median is {_median(found):+.1f}.{_caution(found)}"
    )
    return decided(claim, world, verdict, sentence, found, best)


def _known(compared: Sequence[Comparison]) -> list[Comparison]:
    """Those with an interval: one unit has none."""
    return [comparison for comparison in compared if comparison.estimate.error == comparison.estimate.error]


def _configurations(found: Sequence[Comparison]) -> int:
    """How many configurations were looked at, however often and against whom."""
    asked = ("question", "refresh_s", "against")
    places = [{name: value for name, value in one.configuration.items() if name not in asked} for one in found]
    return len({tuple(sorted(place.items())) for place in places})


def _are_enough(found: Sequence[Comparison]) -> bool:
    return _configurations(found) >= LEAST_CONFIGURATIONS


def _caution(found: Sequence[Comparison]) -> str:
    if _are_enough(found):
        return ""
    return f" Configurations: {_configurations(found)}; to speak of all takes {LEAST_CONFIGURATIONS}."


def _median(found: Sequence[Comparison]) -> float:
    return float(pd.Series([comparison.estimate.value for comparison in found]).median())


def _saved(base: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """Percent of the mean TTFT saved."""
    return _negative(relative_change(base, other, "ttft_ms"))


def _points(base: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    found = difference(base, other, "slo_met", completed=False)
    return replace(found, value=100 * found.value, error=100 * found.error)


def _overhead_ms(base: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """An answer of one token has no time between tokens."""
    spoke = [frame[frame["output_length"] > 1] for frame in (base, other)]
    return difference(spoke[0], spoke[1], "tpot_ms", completed=True)


def _negative(found: Estimate) -> Estimate:
    return replace(found, value=-found.value)
