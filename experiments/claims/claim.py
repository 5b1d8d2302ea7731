"""A claim of the paper, and what one world says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from experiments.analysis import margins

Verdict = Literal["reproduced", "exceeded", "not reproduced", "inconclusive"]
"""`exceeded`: in the claimed direction, and the whole interval lies beyond the paper's figure."""

WORLDS = ("emulated", "analytic")


@dataclass(frozen=True)
class Claim:
    """What the paper's abstract claims. `figure`: its number, in `unit`, if it has one; `rule`: ours, to decide it."""

    name: str
    statement: str
    rule: str
    figure: float | None = None
    unit: str = ""


BEST = (
    "the interval of the best configuration holds the figure and does not reach below"
    f" {margins.LEAST_SHARE_OF_CLAIM:g} times it; exceeded if that interval lies wholly beyond it; not reproduced if no"
    f" interval of at least {margins.LEAST_CONFIGURATIONS} configurations reaches it"
)

CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "C1",
            "ignoring the network term makes cache-aware-only scheduling arbitrarily suboptimal as context length"
            " grows",
            "the formulas exceed every ratio tried at a finite context, and in some configuration `ca` is slower than"
            " netkv_full, statistically significantly, and the more so the longer the prompt; not reproduced if `ca` is"
            " nowhere slower",
            unit="ms per 1,000 tokens",
        ),
        Claim(
            "C2",
            "an O(|D|) per-request greedy over the decode instances D",
            "over all sizes of fabric the whole interval of the log-log slope of the median decision time over |D| is"
            f" at most {margins.CLAIMED_DECISION_SLOPE:g}; not reproduced if it is above",
            figure=margins.CLAIMED_DECISION_SLOPE,
            unit="log-log slope",
        ),
        Claim(
            "C3",
            "its tier rankings are provably robust to stale telemetry",
            "the theorem's bound holds, and at every age in every configuration at least"
            f" {margins.SAME_TIER_PERCENT:g} % of the requests keep the tier they have with the freshest telemetry"
            f" snapshot and mean TTFT stays within {margins.TTFT_MARGIN_PERCENT:g} % of it; not reproduced if either"
            " fails statistically significantly somewhere",
            figure=margins.SAME_TIER_PERCENT,
            unit="% of requests keep their tier",
        ),
        Claim(
            "C4",
            f"mean TTFT up to -{margins.CLAIMED_SAVED_OVER_ROUND_ROBIN_PERCENT:g} % against round-robin,"
            f" {margins.CLAIMED_GPUS}-GPU four-tier fat-tree, Mooncake traces",
            BEST,
            figure=margins.CLAIMED_SAVED_OVER_ROUND_ROBIN_PERCENT,
            unit="% of mean TTFT saved",
        ),
        Claim(
            "C5",
            f"mean TTFT up to -{margins.CLAIMED_SAVED_OVER_CLA_STAR_PERCENT:g} % against a tuned cache+load-aware"
            " scheduler, CLA*",
            BEST,
            figure=margins.CLAIMED_SAVED_OVER_CLA_STAR_PERCENT,
            unit="% of mean TTFT saved",
        ),
        Claim(
            "C6",
            f"SLO attainment up to +{margins.CLAIMED_SLO_GAIN_POINTS:g} percentage points",
            f"against round-robin and against CLA*: {BEST}",
            figure=margins.CLAIMED_SLO_GAIN_POINTS,
            unit="points of SLO attainment",
        ),
        Claim(
            "C7",
            f"Time Between Tokens overhead below {margins.TBT_MARGIN_MS:g} ms in every condition tested",
            f"the whole interval of the overhead over round-robin and over CLA* is below {margins.TBT_MARGIN_MS:g} ms"
            f" in every one of at least {margins.LEAST_CONFIGURATIONS} configurations; not reproduced if it is above in"
            " one",
            figure=margins.TBT_MARGIN_MS,
            unit="ms of mean time between tokens",
        ),
        Claim(
            "C8",
            "no change to transport, inference engine or hardware: only a thin operator-to-scheduler interface, the"
            " network cost oracle",
            "every pair of valid runs of netkv_full and round-robin in the emulated world differs in the policy and the"
            " oracle's settings alone",
        ),
    )
}


@dataclass(frozen=True)
class ClaimVerdict:
    """What one world says of a claim.

    `value`, `low`, `high`: our figure in the claim's unit in the configuration that decides, and its interval, which
    holds together with those of all other `comparisons`; `p`: of that configuration, corrected (Holm); `detectable`:
    the smallest effect that it could have shown alone (`Estimate.detectable`). None where there is none.
    `configuration`: its labels; `sweep` and `runs`: where it was measured. `sentence` says the rest.
    """

    claim: str
    world: str
    verdict: Verdict
    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    comparisons: int = 0
    seeds: int = 0
    configuration: Mapping[str, Any] = field(default_factory=dict)
    sweep: str | None = None
    runs: tuple[str, ...] = ()
    detectable: float | None = None

    @property
    def measured(self) -> bool:
        """Whether any run says anything of it."""
        return self.comparisons > 0

    @property
    def about(self) -> Claim:
        return CLAIMS[self.claim]

    def as_json(self) -> dict[str, Any]:
        """Everything, the paper's side included."""
        paper = {"statement": self.about.statement, "paper": self.about.figure, "unit": self.about.unit}
        return {**asdict(self), **paper, "rule": self.about.rule, "ours": self.ours}

    @property
    def ours(self) -> str:
        """Our number with its interval, as a table has it."""
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return _short(self.value)
        return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"


def _short(value: float) -> str:
    """At most five characters of most figures: three digits that count, and none after the point from 100 on."""
    return f"{value:+.0f}" if abs(value) >= 100 else f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.2f}"
