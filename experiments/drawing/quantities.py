"""The quantities that figures show, each defined once: its column, name, unit, factor, digits, interval and scale.

Matplotlib's figures and the report's Plotly charts read the same definitions. What a sweep varies is a quantity, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import pandas as pd

from experiments.analysis import refresh_name

LEAST_SPAN = 0.1
"""A linear axis spans at least this part of its largest value, so that a small difference looks small."""

MARGIN = 0.06
"""Empty part of an axis beyond the outermost value, at either end."""

LOWEST_SHARE_TOP = 95.0
"""An axis of shares, in percent, starts here or lower; it ends at 100."""

LOG_FROM = 5.0
"""Values of a `LOG` quantity have a logarithmic axis where the largest is at least this many times the smallest."""

NEVER_AT = 3.0
"""An infinite interval is drawn at this many times the longest finite one."""


class Scale(Enum):
    """How an axis shows a quantity."""

    NEAR = "near the values, with the least span"
    FROM_ZERO = "from zero"
    CHANGE = "a change, with a line at zero"
    SHARE = "a share in percent, up to 100"
    LOG = "logarithmic where the values differ enough"


@dataclass(frozen=True)
class Quantity:
    """A quantity on an axis.

    `column`: of its values, `low` and `high`: of the ends of their 95 % interval (or quartiles), in a table of results.
    `factor`: from the column to the `unit`. `digits`: decimals where a value is written out.
    """

    column: str
    name: str
    unit: str = ""
    digits: int = 0
    factor: float = 1.0
    low: str | None = None
    high: str | None = None
    scale: Scale = Scale.NEAR
    published: str | None = None
    """Column of the paper's own values (NaN where it has none), which are drawn over ours."""
    tick_unit: float = math.inf
    """A tick tells its value in units of this, too, unless infinite."""
    names: tuple[str, ...] = ()
    """What stands at the values 0, 1, 2 ..., where the quantity is a place in a list; empty: it is a number."""

    @property
    def label(self) -> str:
        """The text of its axis: `Mean time to first token (ms)`."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def has_interval(self) -> bool:
        return self.low is not None and self.high is not None

    def values(self, rows: pd.DataFrame, column: str | None = None) -> list[float]:
        """The values of `rows` in the quantity's unit; of its interval's ends where `column` names one of them."""
        return [self.factor * float(value) for value in rows[column or self.column]]

    def interval(self, rows: pd.DataFrame) -> tuple[list[float], list[float]]:
        """Lower and upper ends of the intervals of `rows`, in its unit; empty where it has none."""
        if self.low is None or self.high is None:
            return [], []
        return self.values(rows, self.low), self.values(rows, self.high)

    def published_values(self, rows: pd.DataFrame) -> list[float]:
        """The paper's own values beside those of `rows`, in its unit; empty where none are drawn."""
        return [] if self.published is None else self.values(rows, self.published)

    def number(self, value: float) -> str:
        """A value (in its unit) with its digits; a change with its sign. Never `-0.0`."""
        rounded = round(value, self.digits) + 0.0
        signed = "+" if self.scale is Scale.CHANGE and rounded else ""
        return f"{rounded:{signed}.{self.digits}f}"

    def text(self, value: float, low: float | None = None, high: float | None = None) -> str:
        """A value with its unit and, where they are given, the ends of its interval: `-7.4 % [-8.1, -6.6]`."""
        said = f"{self.number(value)} {self.unit}".strip()
        return said if low is None or high is None else f"{said} [{self.number(low)}, {self.number(high)}]"

    def tick(self, value: float) -> str:
        """A value of the column as the text of a tick, two lines with a `tick_unit`; infinity is `never`."""
        if self.names:
            return self.names[round(value)]
        text = refresh_name(self.factor * value).removesuffix(" s")
        return text if math.isinf(self.tick_unit) or math.isinf(value) else f"{text}\n({value / self.tick_unit:.2g})"

    def places(self, values: Sequence[float]) -> list[float]:
        """Where values of the column stand on an axis that has to end: an infinite one right of all others."""
        finite = [value for value in values if math.isfinite(value)] or [1.0]
        return [self.factor * min(value, NEVER_AT * max(finite)) for value in values]

    def is_log(self, values: Iterable[float]) -> bool:
        """Whether an axis of such values (in the unit) is logarithmic."""
        known = _finite(values)
        return self.scale is Scale.LOG and bool(known) and 0 < LOG_FROM * min(known) <= max(known)

    def ends(self, values: Iterable[float]) -> tuple[float, float]:
        """Both ends of an axis that shows all of `values` (in the unit)."""
        known = _finite(values) or [0.0]
        low, high = min(known), max(known)
        if self.is_log(known):
            spare = (high / low) ** MARGIN
            return low / spare, high * spare
        if self.scale is Scale.SHARE:
            return max(min(low - 1, LOWEST_SHARE_TOP), 0.0), 100.5
        if self.scale is Scale.FROM_ZERO:
            return 0.0, (1 + MARGIN) * high or 1.0
        if self.scale is Scale.CHANGE:
            low, high = min(low, 0.0), max(high, 0.0)
            spare = MARGIN * (high - low) or 1.0
            return low - spare, high + spare
        spare = max(LEAST_SPAN * high - (high - low), 0) / 2 + MARGIN * (high - low)
        return max(low - spare, 0.0), high + spare

    def with_interval(self, low: str, high: str) -> Quantity:
        """The same with other columns for its interval."""
        return replace(self, low=low, high=high)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


# What is measured: columns of `experiments.analysis.tidy`.

TTFT = Quantity("ttft_ms", "Mean time to first token", "ms", low="ttft_low_ms", high="ttft_high_ms")
TBT = Quantity("tpot_ms", "Mean time between tokens", "ms", 1, low="tpot_low_ms", high="tpot_high_ms")
SLO = Quantity(
    "slo_attainment", "Requests within their SLO", "%", 1, 100.0, low="slo_low", high="slo_high", scale=Scale.SHARE
)
DECISION = Quantity("decision_us", "Median decision latency", "µs", scale=Scale.FROM_ZERO)
PREDICTION_ERROR = Quantity(
    "error", "Error of the predicted KV transfer", "%", 0, 100.0, low="low", high="high", scale=Scale.FROM_ZERO
)
"""Of `experiments.questions.age_bins`: the median, with quartiles for an interval."""

PAIRED_TTFT = TTFT.with_interval("paired_low_ms", "paired_high_ms")
"""Mean TTFT with the intervals of `with_paired_intervals`."""


def with_paired_intervals(results: pd.DataFrame, change: str = "ttft_change") -> pd.DataFrame:
    """`paired_low_ms` and `paired_high_ms`: the interval of a paired change laid on the mean TTFT that it starts from.

    Requests differ far more than policies do, so that only the pairs decide whether two policies differ.
    """
    start_ms = results["ttft_ms"] / (1 + results[f"{change}_percent"] / 100)
    ends = {f"paired_{end}_ms": start_ms * (1 + results[f"{change}_{end}"] / 100) for end in ("low", "high")}
    return results.assign(**ends)


def change_against(reference: str, prefix: str) -> Quantity:
    """The paired change of the mean TTFT against a reference, named by its label; `prefix`: of the three columns."""
    return Quantity(
        f"{prefix}_percent", f"Mean TTFT against {reference}", "%", 1,
        low=f"{prefix}_low", high=f"{prefix}_high", scale=Scale.CHANGE,
    )  # fmt: skip


def gain_over(reference: str) -> Quantity:
    """The share of a reference's mean TTFT that a policy saves (`experiments.analysis.gains`)."""
    return Quantity(
        "gain_percent", f"Mean TTFT saved over {reference}", "%", 1,
        low="gain_low", high="gain_high", scale=Scale.CHANGE,
    )  # fmt: skip


# What is varied.

REFRESH = Quantity("refresh_s", "Telemetry refresh interval", "s", scale=Scale.LOG)


def refresh_in(correlation_s: float) -> Quantity:
    """`REFRESH` whose ticks also tell it in correlation times of the congestion, seconds: their ratio decides."""
    return replace(REFRESH, tick_unit=correlation_s)


SNAPSHOT_AGE = Quantity("age_s", "Age of the telemetry snapshot", "s", 2, scale=Scale.LOG)
CONGESTION_PERIOD = Quantity("time_scale_s", "Period of the congestion", "s", scale=Scale.LOG)
SHARING = Quantity("sharing", "Requests that share a document", "%", factor=100.0)
LOAD_PERCENT = Quantity("load_percent", "Load", "% of the paper's arrival rate")
GPUS = Quantity("gpus", "GPUs", scale=Scale.LOG)
TOR_OVERSUBSCRIPTION = Quantity("tor_oversubscription", "Oversubscription at the ToR", "n:1")
AGGREGATION_OVERSUBSCRIPTION = Quantity("aggregation_oversubscription", "Oversubscription at the aggregation", "n:1")


def place_among(column: str, name: str, names: Sequence[str]) -> Quantity:
    """One of several things without a measure: the column holds its place in `names`."""
    return Quantity(column, name, names=tuple(names))


# Of the comparison of both worlds: columns of `experiments.comparing.replay_table`.

EMULATED_TRANSFER = Quantity("taken_s", "KV transfer, emulated", "ms", factor=1e3, scale=Scale.LOG)
TRANSFER_ERROR = Quantity("error_percent", "Error of the modelled KV transfer", "%")
SHARE_OF_TRANSFERS = Quantity("share_percent", "Transfers within the error", "%", scale=Scale.SHARE)


def modelled_transfer(model: str, name: str) -> Quantity:
    """The time that a model gives a KV transfer; `model`: its column, in seconds."""
    return Quantity(model, f"KV transfer, {name}", "ms", factor=1e3, scale=Scale.LOG)
