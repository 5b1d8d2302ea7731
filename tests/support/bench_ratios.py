"""Ratios of benchmarks to references measured in the same run: kept in a file, and held against it.

A ratio is the reference's time over ours: 3 is three times as fast as the reference. Seconds of another day or machine
say little, ratios a good deal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

SLOWER = 0.8
"""A benchmark got slower if its median ratio is below this part of the kept one, and no turn reached the kept one."""


@dataclass(frozen=True)
class Ratio:
    """Of several turns: the median ratio, the lowest and the highest."""

    median: float
    low: float
    high: float


class Ratios:
    """The ratios of one run beside those that are kept in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.kept: Mapping[str, Ratio] = (
            {name: Ratio(**found) for name, found in json.loads(file.read_text()).items()} if file.exists() else {}
        )
        self.now: dict[str, Ratio] = {}

    def note(self, name: str, to: str, reference_s: Sequence[float], ours_s: Sequence[float]) -> Ratio:
        """The times of a benchmark and of its reference, `to`, turn by turn, in one unit. Both name the ratio."""
        turns = [reference / ours for reference, ours in zip(reference_s, ours_s, strict=True)]
        self.now[f"{name} : {to}"] = found = Ratio(median(turns), min(turns), max(turns))
        return found

    @property
    def slower(self) -> list[str]:
        """The names of those that got slower."""
        return [name for name, kept in self.kept.items() if name in self.now and is_slower(self.now[name], kept)]

    def keep(self, *, all_of_them: bool) -> None:
        """Write the file: what is new in this run, or everything that it measured."""
        found = {**self.now, **self.kept} if not all_of_them else {**self.kept, **self.now}
        rounded = {name: asdict(found[name]) for name in sorted(found)}
        for ratio in rounded.values():
            ratio |= {key: float(f"{ratio[key]:.3g}") for key in ("median", "low", "high")}
        self._file.write_text(json.dumps(rounded, indent=1) + "\n")

    def lines(self) -> list[str]:
        """A table of this run's ratios, and a line for each that got slower."""
        rows = [f"{'times as fast as the reference':<58} {'now':>7} {'turns':>17} {'kept':>7}"]
        for name, now in self.now.items():
            kept = f"{self.kept[name].median:7.3g}" if name in self.kept else "    new"
            turns = f"{now.low:.3g} to {now.high:.3g}"
            rows.append(f"{name:<58} {now.median:7.3g} {turns:>17} {kept}")
        for name in self.slower:
            part = self.now[name].median / self.kept[name].median
            rows.append(f"SLOWER: {name}: {part:.2f} times the ratio that it had")
        if not self.slower and self.kept:
            rows.append("nothing got slower")
        return rows


def is_slower(now: Ratio, kept: Ratio) -> bool:
    return now.median < SLOWER * kept.median and now.high < kept.median
