"""The claims with a number: `up to` (C4, C5, C6), decided by the best configuration, and `in every condition` (C7).

All configurations looked at are corrected for: their intervals hold together (Bonferroni), so that the best of many is
not taken at its face value. `up to` F is *exceeded* where the whole interval of the best configuration lies beyond F,
*reproduced* where that interval holds F and does not reach below F / 2, *not reproduced* where no interval reaches F;
`below B everywhere` is reproduced where all intervals stay below B, not reproduced where one stays above it. That none
reaches F, or that all stay below B, takes `margins.LEAST_CONFIGURATIONS` to say. All else is inconclusive. The findings
are those of `experiments.analysis`; here they become verdicts and sentences.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.analysis import (
    SHARE_DIFFERENCE,
    Estimate,
    Interval,
    difference,
    holm,
    largest_gain,
    margins,
    overhead,
    relative_change,
)
from experiments.claims.claim import CLAIMS, ClaimVerdict, Verdict
from experiments.claims.policy_comparisons import ClaimSweep, PolicyComparison, compare

ROUND_ROBIN, CLA_STAR = "round_robin", "cla_star"


def ttft_saved(sweeps: Sequence[ClaimSweep], world: str) -> list[ClaimVerdict]:
    """C4 and C5."""
    against_round_robin, against_cla_star = (
        compare(sweeps, world, (baseline,), _saved) for baseline in (ROUND_ROBIN, CLA_STAR)
    )
    as_claimed = [comparison for comparison in against_round_robin if comparison.gpus == margins.CLAIMED_GPUS]
    return [
        _up_to(
            "C4", world, as_claimed, f"both netkv_full and {ROUND_ROBIN} on {margins.CLAIMED_GPUS} GPUs", "topology"
        ),
        _up_to("C5", world, against_cla_star, f"both netkv_full and {CLA_STAR}", "topology"),
    ]


def slo_gained(sweeps: Sequence[ClaimSweep], world: str) -> ClaimVerdict:
    """C6. The figure is against round-robin (arXiv 2606.03910v1, Table 3, +13.6 against CLA*); both are looked at."""
    found = compare(sweeps, world, (ROUND_ROBIN, CLA_STAR), _points)
    return _up_to("C6", world, found, f"netkv_full with {ROUND_ROBIN} or {CLA_STAR}", "topology")


def tbt_overhead(sweeps: Sequence[ClaimSweep], world: str) -> ClaimVerdict:
    """C7, in the worst configuration."""
    found_at_all = compare(sweeps, world, (ROUND_ROBIN, CLA_STAR), _overhead_ms)
    compared = known(found_at_all)
    if not compared and found_at_all:
        remedy = f"`netkv sweep topology --world {world} --profile full`"
        sentence = f"not measured: one seed tells no interval of a mean TBT: run {remedy}"
        return ClaimVerdict("C7", world, "inconclusive", sentence)
    if not compared:
        return not_measured("C7", world, f"netkv_full with {ROUND_ROBIN} or {CLA_STAR}", "topology")
    found = overhead(intervals(compared))
    verdict: Verdict = "inconclusive"
    if found.verdict == "above":
        verdict = "not reproduced"
    elif found.verdict == "below" and _are_enough(compared):
        verdict = "reproduced"
    sentence = (
        f"The overhead is largest at {compared[found.worst].at()}; it is {found.bound:g} ms or more in {found.reached}"
        f" of {len(compared)} comparisons, statistically significantly in {found.beyond}.{_caution(compared)}"
    )
    return decided("C7", world, verdict, sentence, compared, found.worst, truth=found.bound)


def decided(
    claim: str,
    world: str,
    verdict: Verdict,
    sentence: str,
    found: Sequence[PolicyComparison],
    which: int,
    truth: float = 0.0,
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
        detectable=chosen.estimate.detectable(),
        comparisons=len(found),
        seeds=chosen.seeds,
        configuration=chosen.configuration,
        sweep=chosen.sweep,
        runs=chosen.runs,
    )


def not_measured(claim: str, world: str, needs: str, question: str) -> ClaimVerdict:
    command = f"netkv sweep {question} --world {world}"
    return ClaimVerdict(claim, world, "inconclusive", f"not measured: no valid runs of {needs}: run `{command}`")


def intervals(compared: Sequence[PolicyComparison], comparisons: int = 0) -> list[Interval]:
    """Intervals that hold together for all of them, or for so many `comparisons`."""
    return [Interval.of_estimate(one.estimate, comparisons or len(compared)) for one in compared]


def _up_to(claim: str, world: str, compared: Sequence[PolicyComparison], needs: str, question: str) -> ClaimVerdict:
    measured = known(compared)
    if not measured:
        return not_measured(claim, world, needs, question)
    found = largest_gain(intervals(measured), CLAIMS[claim].figure or 0.0)
    verdict: Verdict = "inconclusive"
    if found.beside == "above":
        verdict = "exceeded"
    elif found.supports:
        verdict = "reproduced"
    elif found.refutes and _are_enough(measured):
        verdict = "not reproduced"
    sentence = (
        f"The best of {len(measured)} comparisons is at {measured[found.best].at()}; {found.reached} reach"
        f" {found.claimed:g}, a gain is statistically significant in {found.gains}, the median is"
        f" {_median(measured):+.1f}.{_caution(measured)}"
    )
    return decided(claim, world, verdict, sentence, measured, found.best)


def known(compared: Sequence[PolicyComparison]) -> list[PolicyComparison]:
    """Those with an interval: one unit has none."""
    return [comparison for comparison in compared if comparison.estimate.error == comparison.estimate.error]


def _configurations(found: Sequence[PolicyComparison]) -> int:
    """How many configurations were looked at, however often and against whom."""
    not_counted = ("question", "refresh_s", "against")
    places = [{name: value for name, value in one.configuration.items() if name not in not_counted} for one in found]
    return len({tuple(sorted(place.items())) for place in places})


def _are_enough(found: Sequence[PolicyComparison]) -> bool:
    return _configurations(found) >= margins.LEAST_CONFIGURATIONS


def _caution(found: Sequence[PolicyComparison]) -> str:
    if _are_enough(found):
        return ""
    return f" Configurations: {_configurations(found)}; to speak of all takes {margins.LEAST_CONFIGURATIONS}."


def _median(found: Sequence[PolicyComparison]) -> float:
    return float(pd.Series([comparison.estimate.value for comparison in found]).median())


def _saved(base: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """Percent of the mean TTFT saved."""
    return relative_change(base, other, "ttft_ms").times(-1)


def _points(base: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    return difference(base, other, "slo_met", completed=False, bounds=SHARE_DIFFERENCE).times(100)


def _overhead_ms(base: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """An answer of one token has no time between tokens."""
    spoke = [frame[frame["output_length"] > 1] for frame in (base, other)]
    return difference(spoke[0], spoke[1], "tpot_ms", completed=True)
