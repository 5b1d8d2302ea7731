"""What a figure shows, independent of who draws it: its rows, quantities, intervals, title and note.

Three kinds: lines over what was varied, bars by policy, heat maps over two varied quantities. Each is drawn by
Matplotlib (`experiments.drawing.static_charts`) and by Plotly (`experiments.report.interactive_charts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from experiments.drawing.quantities import Quantity
from experiments.drawing.style import in_order

Row = Mapping[Any, Any]


@dataclass(frozen=True, kw_only=True)
class _AnyChart:
    """`name`: of its file; `rows`: a table with a `world` column; `findings`: sentences worked out from the rows."""

    name: str
    title: str
    rows: pd.DataFrame
    note: str = ""
    findings: tuple[str, ...] = ()

    @property
    def worlds(self) -> list[str]:
        return list(dict.fromkeys(self.rows["world"]))

    @property
    def workloads(self) -> list[str]:
        return list(dict.fromkeys(self.rows["workload"]))

    @property
    def policies(self) -> list[str]:
        """In the order of every legend."""
        return in_order(self.rows["policy"])

    def panel(self, world: str, workload: str) -> pd.DataFrame:
        """The rows of one panel; empty where no run covers it."""
        return self.rows[(self.rows["world"] == world) & (self.rows["workload"] == workload)]


@dataclass(frozen=True)
class Line:
    """A policy's line: where its points are, their values and the ends of their intervals (empty: it has none).

    `flat`: the policy does not depend on what is varied; `at` is empty and `values` holds one value. `published`: the
    paper's own values at the same places, NaN where it has none.
    """

    policy: str
    rows: pd.DataFrame
    at: list[float]
    values: list[float]
    low: list[float]
    high: list[float]
    published: list[float] = field(default_factory=list)

    @property
    def flat(self) -> bool:
        return not self.at

    @property
    def shown(self) -> list[float]:
        """Every value that its axis has to show."""
        return [*self.values, *self.low, *self.high, *self.published]


@dataclass(frozen=True, kw_only=True)
class LineChart(_AnyChart):
    """A panel a world and quantity, a line a policy over `x`. A policy without a value of `x` is a flat line.

    `steps`: `x` has few values, and each has its tick.
    """

    x: Quantity
    quantities: tuple[Quantity, ...]
    steps: bool = True

    @property
    def x_values(self) -> list[float]:
        """The values of the varied column, sorted."""
        return sorted(float(value) for value in self.rows[self.x.column].dropna().unique())

    def lines(self, world: str, quantity: Quantity) -> list[Line]:
        of_world = self.rows[self.rows["world"] == world]
        place = dict(zip(self.x_values, self.x.places(self.x_values), strict=True))
        found = []
        for policy in self.policies:
            known = of_world[(of_world["policy"] == policy) & of_world[quantity.column].notna()]
            swept = known.dropna(subset=[self.x.column]).sort_values(self.x.column)
            if len(swept):
                at = [place[float(value)] for value in swept[self.x.column]]
                ends = quantity.interval(swept)
                theirs = quantity.published_values(swept)
                found.append(Line(policy, swept, at, quantity.values(swept), *ends, theirs))
            elif len(known):
                found.append(Line(policy, known, [], quantity.values(known)[:1], [], []))
        return found


@dataclass(frozen=True)
class Bar:
    """A policy's bar and, but for the reference, its change against it with the ends of its interval.

    `published`: the paper's own value, if it is drawn.
    """

    policy: str
    row: Row
    value: float
    low: float | None
    high: float | None
    change: str
    published: float | None = None


@dataclass(frozen=True, kw_only=True)
class BarChart(_AnyChart):
    """A panel a world and workload, a bar a policy from zero, with the paired change against the reference on it."""

    quantity: Quantity
    change: Quantity

    def bars(self, world: str, workload: str) -> list[Bar]:
        by_policy: dict[str, Row] = {row["policy"]: row for row in self.panel(world, workload).to_dict("records")}
        return [self._bar(policy, by_policy[policy]) for policy in self.policies if policy in by_policy]

    def _bar(self, policy: str, row: Row) -> Bar:
        value = self.quantity.factor * row[self.quantity.column]
        theirs = None if self.quantity.published is None else self.quantity.factor * row[self.quantity.published]
        if policy == row["reference"] or pd.isna(row[self.change.column]):
            return Bar(policy, row, value, None, None, "", theirs)
        low, high = (self.quantity.factor * row[end] for end in (self.quantity.low, self.quantity.high))
        return Bar(policy, row, value, low, high, self.change.text(row[self.change.column]), theirs)


@dataclass(frozen=True)
class Cell:
    """A cell of a heat map: its place by column and row, its value, and whether its interval leaves zero out.

    `published`: the paper's own value, if it is drawn.
    """

    column: int
    line: int
    row: Row
    value: float
    significant: bool
    published: float | None = None


@dataclass(frozen=True, kw_only=True)
class HeatMap(_AnyChart):
    """A panel a world and workload: one policy's `value` by `y` (upwards) and `x`, on one scale of colours."""

    policy: str
    x: Quantity
    y: Quantity
    value: Quantity

    @property
    def most(self) -> float:
        """The value at either end of the colours, which all panels share."""
        return max(float(self.rows[self.value.column].abs().max()), 1.0)

    def steps(self, axis: Quantity) -> list[float]:
        """The values of an axis, sorted."""
        return sorted(float(value) for value in self.rows[axis.column].unique())

    def cells(self, world: str, workload: str) -> Iterator[Cell]:
        columns, lines = self.steps(self.x), self.steps(self.y)
        for row in self.panel(world, workload).to_dict("records"):
            low, high = row[self.value.low], row[self.value.high]
            place = columns.index(row[self.x.column]), lines.index(row[self.y.column])
            theirs = None if self.value.published is None else float(row[self.value.published])
            yield Cell(*place, row, float(row[self.value.column]), bool(low > 0 or high < 0), theirs)


Chart = LineChart | BarChart | HeatMap
