"""Where the wall time of a sweep goes: `timing.json` in its folder, and the share spent replaying.

Seconds are those of processes: of runs side by side, each counts its own. A sweep that was continued adds up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.running.errors import StoreError
from experiments.running.ownership import hand_over
from experiments.running.store import sync

TIMING = "timing.json"
UNFINISHED = ".timing.json"


@dataclass
class WallTime:
    """Seconds of `runs` runs: bringing fabrics up; replaying, from t = 0 to the end of a run's last request; around
    that, with workers, calibration, proofs of a clean state and the tracing of paths; rendering and writing the result.
    """

    runs: int = 0
    bring_up_s: float = 0.0
    replaying_s: float = 0.0
    around_s: float = 0.0
    writing_s: float = 0.0

    def add(self, run: Mapping[str, float], writing_s: float = 0.0) -> None:
        """Count one run: what `WorldRunner.run` says of it, and how long its folder took to write."""
        self.runs += 1
        self.bring_up_s += run["bring_up"]
        self.replaying_s += run["replaying"]
        self.around_s += run["run"] - run["replaying"]
        self.writing_s += run["rendering"] + writing_s

    @property
    def replaying_share(self) -> float:
        """0 before the first run."""
        all_s = self.bring_up_s + self.replaying_s + self.around_s + self.writing_s
        return self.replaying_s / all_s if all_s else 0.0

    def __str__(self) -> str:
        return (
            f"{self.replaying_share:.0%} of the time spent replaying ({self.replaying_s:.0f} s of {self.runs} runs;"
            f" {self.bring_up_s:.0f} s bringing fabrics up, {self.around_s:.0f} s around runs,"
            f" {self.writing_s:.0f} s writing)"
        )


def read_wall_time(out: Path) -> WallTime:
    """What a sweep has spent so far; nothing where no `timing.json` that can be read says so."""
    try:
        told = json.loads((out / TIMING).read_text(encoding="utf-8"))
        return WallTime(**{name: told[name] for name in asdict(WallTime())})
    except (OSError, ValueError, KeyError, TypeError):
        return WallTime()


def write_wall_time(spent: WallTime, out: Path) -> None:
    """Replace `timing.json`. StoreError when it cannot be written."""
    unfinished = out / UNFINISHED
    told = {name: round(value, 3) for name, value in asdict(spent).items()}
    try:
        unfinished.write_text(json.dumps(told | {"replaying_share": round(spent.replaying_share, 4)}) + "\n")
        sync(unfinished)
        hand_over(unfinished)
        unfinished.rename(out / TIMING)
    except OSError as problem:
        raise StoreError(f"{out / TIMING}: {problem.strerror or problem}") from None
