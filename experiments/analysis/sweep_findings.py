"""What rows of the tidy frame say: typed findings about one policy, computed once and put into words elsewhere.

Rows are of one world, workload and policy, in order of what the sweep varies; `tidy` describes their columns. The
judgements are those of `findings`. Changes are percent of the reference's mean TTFT: a negative one is a gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import pandas as pd

from experiments.analysis.findings import (
    Invariance,
    LargestGain,
    Overhead,
    Retention,
    TiersKept,
    invariance,
    largest_gain,
    overhead,
    retention,
    tiers_kept,
)
from experiments.analysis.interval import Interval, farthest, largest
from experiments.analysis.margins import KV_MARGIN_PERCENT, SLO_MARGIN_POINTS, TBT_MARGIN_MS
from experiments.analysis.results import change_column
from experiments.analysis.statistics import CONFIDENCE, holm


@dataclass(frozen=True)
class AgedChange:
    """A change since the freshest snapshot, percent, at one refresh interval, with the number of seeds behind it."""

    refresh_s: float
    change: Interval
    seeds: int


def aged_changes(rows: pd.DataFrame, prefix: str = "aged_change") -> list[AgedChange]:
    """The rows but the first, which is the reference: of TTFT, or with `aged_kv` of the KV transfer alone."""
    return [
        AgedChange(float(row["refresh_s"]), Interval.of_row(row, prefix), int(row["seeds"]))
        for _, row in rows.iloc[1:].iterrows()
    ]


def ttft_invariance(rows: pd.DataFrame) -> tuple[list[AgedChange], Invariance]:
    """Whether the mean TTFT is invariant with the age of the snapshot."""
    aged = aged_changes(rows)
    return aged, invariance([one.change for one in aged])


def kv_invariance(rows: pd.DataFrame) -> tuple[AgedChange, Invariance]:
    """The largest change of the mean KV transfer, the part of TTFT that telemetry is about; and if all are small."""
    aged = aged_changes(rows, "aged_kv")
    changes = [one.change for one in aged]
    return aged[farthest(changes)], invariance(changes, KV_MARGIN_PERCENT)


@dataclass(frozen=True)
class RetainedTelemetry:
    """What the freshest snapshot gains over none, ms of the mean TTFT, and percent of it that older ones keep."""

    gain_ms: Interval
    shares: tuple[AgedChange, ...]
    found: Retention


def retained_telemetry(rows: pd.DataFrame) -> RetainedTelemetry | None:
    """None where the policy without telemetry was not run, or has no valid run of a seed that all rows have."""
    gain_ms = Interval.of_row(rows.iloc[0], "telemetry_gain", "ms")
    shares = tuple(aged_changes(rows, "retained"))
    if math.isnan(gain_ms.value) or any(math.isnan(one.change.value) for one in shares):
        return None
    return RetainedTelemetry(gain_ms, shares, retention(gain_ms, [one.change for one in shares]))


@dataclass(frozen=True)
class Spread:
    """How far the means of TBT (ms) and of SLO attainment (points) are apart over the rows, and the margins."""

    tbt_ms: float
    slo_points: float
    tbt: Literal["within", "beyond"]
    slo: Literal["within", "beyond"]


def spread(rows: pd.DataFrame) -> Spread:
    tbt_ms = float(rows["tpot_ms"].max() - rows["tpot_ms"].min())
    slo_points = float(100 * (rows["slo_attainment"].max() - rows["slo_attainment"].min()))
    return Spread(
        tbt_ms,
        slo_points,
        "within" if tbt_ms <= TBT_MARGIN_MS else "beyond",
        "within" if slo_points <= SLO_MARGIN_POINTS else "beyond",
    )


def row_tiers_kept(rows: pd.DataFrame) -> tuple[TiersKept, float, float]:
    """Whether requests keep their tier; the smallest share, and the refresh interval where it is."""
    aged = rows.iloc[1:]
    found = tiers_kept([Interval.exactly(100 * float(share)) for share in aged["same_tier"]])
    fewest = aged.iloc[found.fewest]
    return found, float(fewest["same_tier"]), float(fewest["refresh_s"])


@dataclass(frozen=True)
class KeptGain:
    """The gain over the reference with the freshest snapshot, and what is kept of it with the oldest one."""

    verdict: Literal["kept", "not significant", "no reference"]
    fresh_s: float
    fresh: Interval
    old_s: float
    old: Interval


def kept_gain(rows: pd.DataFrame, prefix: str = "ttft_change") -> KeptGain:
    first, last = rows.iloc[0], rows.iloc[-1]
    fresh, old = Interval.of_row(first, prefix), Interval.of_row(last, prefix)
    verdict: Literal["kept", "not significant", "no reference"] = "not significant"
    if math.isnan(fresh.value):
        verdict = "no reference"
    elif old.significance == "lower":
        verdict = "kept"
    return KeptGain(verdict, float(first["refresh_s"]), fresh, float(last["refresh_s"]), old)


@dataclass(frozen=True)
class TelemetryWorth:
    """What telemetry is worth against a policy that reads none, by refresh interval.

    `fresh`: the change at the shortest interval, `worst`: the least favourable one; `gains_at`, `losses_at` and
    `undecided_at`: the intervals at which the change is significantly a gain, a loss or neither, corrected for their
    number (Holm).
    """

    fresh_s: float
    fresh: Interval
    worst_s: float
    worst: Interval
    gains_at: tuple[float, ...]
    losses_at: tuple[float, ...]
    undecided_at: tuple[float, ...]


def telemetry_worth(rows: pd.DataFrame, prefix: str) -> TelemetryWorth | None:
    """None where the policy without telemetry was not run."""
    known = rows.dropna(subset=[f"{prefix}_percent"])
    if known.empty:
        return None
    changes = [Interval.of_row(row, prefix) for _, row in known.iterrows()]
    refresh_s = [float(value) for value in known["refresh_s"]]
    worst = largest(changes)
    judged = [
        "undecided" if not p < 1 - CONFIDENCE else "gain" if change.value < 0 else "loss"
        for change, p in zip(changes, holm(list(known[f"{prefix}_p"])), strict=True)
    ]
    gains_at, losses_at, undecided_at = (
        tuple(at for at, found in zip(refresh_s, judged, strict=True) if found == which)
        for which in ("gain", "loss", "undecided")
    )
    return TelemetryWorth(refresh_s[0], changes[0], refresh_s[worst], changes[worst], gains_at, losses_at, undecided_at)


@dataclass(frozen=True)
class Constancy:
    """Whether a change is the same at every value of what is varied, as far as its intervals allow.

    `first` and `last`: the changes at the ends; `gains`: at how many of the `count` values there is a significant gain;
    `moves_points`: how far apart the changes are.
    """

    verdict: Literal["not refuted", "not constant"]
    first: Interval
    last: Interval
    gains: int
    count: int
    moves_points: float


def constancy(rows: pd.DataFrame, prefix: str) -> Constancy:
    changes = [Interval.of_row(row, prefix) for _, row in rows.iterrows()]
    overlap = max(change.low for change in changes) <= min(change.high for change in changes)
    values = [change.value for change in changes]
    return Constancy(
        "not refuted" if overlap else "not constant",
        changes[0],
        changes[-1],
        sum(change.significance == "lower" for change in changes),
        len(changes),
        max(values) - min(values),
    )


def largest_row_gain(rows: pd.DataFrame, claimed: float) -> tuple[LargestGain, Interval]:
    """The largest gain of the rows beside the claimed one, percent of the reference's mean TTFT saved."""
    gains = [-Interval.of_row(row, "ttft_change") for _, row in rows.iterrows()]
    found = largest_gain(gains, claimed)
    return found, gains[found.best]


@dataclass(frozen=True)
class PolicyStep:
    """What one step of an ablation changes: `policy` against `reference`."""

    policy: str
    reference: str
    change: Interval


def ablation_steps(
    by_policy: Mapping[str, Mapping[Any, Any]], order: Sequence[str]
) -> tuple[list[PolicyStep], PolicyStep | None]:
    """Every step from one policy to the next that was run, and all of them together if the first one was run.

    `by_policy`: a row a policy, with changes against each of `order` as its references.
    """
    found = [name for name in order if name in by_policy]

    def step(policy: str, reference: str) -> PolicyStep:
        return PolicyStep(policy, reference, Interval.of_row(by_policy[policy], change_column(reference, order)))

    steps = [step(policy, below) for below, policy in pairwise(found)]
    whole = step(found[-1], order[0]) if len(steps) > 1 and found[0] == order[0] else None
    return steps, whole


@dataclass(frozen=True)
class ReferenceOverhead:
    """The largest TBT overhead over one reference, ms, and the size of the fabric where it is."""

    reference: str
    overhead_ms: float
    gpus: int


def tbt_overheads(
    rows: pd.DataFrame, beside: pd.DataFrame, references: Sequence[str]
) -> tuple[list[ReferenceOverhead], Overhead | None]:
    """The overhead over each reference by size of the fabric; `beside`: the rows of every policy. None without one."""
    found = []
    for reference in references:
        base = beside[beside["policy"] == reference].set_index("gpus")["tpot_ms"]
        over = (rows.set_index("gpus")["tpot_ms"] - base).dropna()
        if len(over):
            found.append(
                ReferenceOverhead(reference, float(over.max()), int(over.index[int(over.to_numpy().argmax())]))
            )
    return found, overhead([Interval.exactly(one.overhead_ms) for one in found]) if found else None


@dataclass(frozen=True)
class ScaleChange:
    """From the smallest fabric to the largest: SLO attainment in points, the median decision in microseconds."""

    slo_points: float
    first_us: float
    last_us: float
    decision_ratio: float
    size_ratio: float


def scale_change(rows: pd.DataFrame) -> ScaleChange:
    first, last = rows.iloc[0], rows.iloc[-1]
    return ScaleChange(
        float(100 * (last["slo_attainment"] - first["slo_attainment"])),
        float(first["decision_us"]),
        float(last["decision_us"]),
        float(last["decision_us"] / first["decision_us"]),
        float(last["gpus"] / first["gpus"]),
    )
