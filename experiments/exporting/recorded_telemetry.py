"""The telemetry of a finished run, played once more for those who read an oracle: ALTO's clients, for example."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from controller import AltoSnapshot
from experiments.running import SNAPSHOTS, StoreError, is_run, read_manifest, read_table, spec_of
from topologies import Fabric

Floats = NDArray[np.float64]


@dataclass
class RecordedTelemetry:
    """The snapshots of a run of T, called to get the one of this moment; None before the first.

    read_s, sampled_s: [T], when each was there to read and when it was measured, seconds of the run, rising.
    utilisation: [T, links]. The run begins with its first snapshot when it is called first, and goes `pace` times as
    fast; after its end the last snapshot stays. `at_s`: only the snapshot of that moment.
    """

    fabric: Fabric
    read_s: Floats
    sampled_s: Floats
    utilisation: Floats
    pace: float = 1.0
    at_s: float | None = None
    unix_s: Callable[[], float] = time.time
    _began_unix_s: float | None = field(default=None, init=False)

    def __call__(self) -> AltoSnapshot | None:
        now_s = self.unix_s()
        if self._began_unix_s is None:
            self._began_unix_s = now_s
        if self.at_s is not None:
            run_s, zero_unix_s, pace = self.at_s, self._began_unix_s - self.at_s, 1.0
        else:
            run_s = self.read_s[0] + (now_s - self._began_unix_s) * self.pace
            zero_unix_s, pace = self._began_unix_s - self.read_s[0] / self.pace, self.pace
        at = int(np.searchsorted(self.read_s, run_s, side="right")) - 1
        if at < 0:
            return None
        return AltoSnapshot(zero_unix_s + float(self.sampled_s[at]) / pace, self.utilisation[at])


def read_telemetry(folder: Path) -> RecordedTelemetry:
    """What the scheduler of a run read, or, of a run that kept no such record, the log of its links.

    StoreError when the folder is no run or holds no telemetry.
    """
    if not is_run(folder) and (folder / "runs").is_dir():
        raise StoreError(f"{folder}: is a sweep; name one of its runs, {folder / 'runs'}/...")
    fabric, _ = spec_of(folder, read_manifest(folder)).build()
    names = [link.name for link in fabric.links]
    if (folder / f"{SNAPSHOTS}.parquet").is_file():
        rows = read_table(folder, SNAPSHOTS, ["read_s", "sampled_s", "link", "utilisation"]).dropna()
    else:
        rows = read_table(folder, "links", ["time_s", "link", "utilisation"]).dropna()
        rows = rows.rename(columns={"time_s": "read_s"}).assign(sampled_s=lambda table: table["read_s"])
    by_time: pd.DataFrame = rows.pivot_table(index=["read_s", "sampled_s"], columns="link", values="utilisation")
    if not len(by_time):
        raise StoreError(f"{folder}: holds no telemetry: its policy read none, or the run was too short")
    if missing := [name for name in names if name not in by_time]:
        raise StoreError(f"{folder}: its telemetry lacks the link {missing[0]}")
    read_s, sampled_s = (by_time.index.get_level_values(level).to_numpy(dtype=float) for level in (0, 1))
    utilisation = by_time[names].ffill().bfill().clip(0.0, 1.0).to_numpy(dtype=float)
    return RecordedTelemetry(fabric, read_s, sampled_s, utilisation)
