"""What a background flow that ends leaves behind: transfers that met such an end, and all others, against the fluid.

    python -m tests.bench.backlog SWEEP_DIR

The fluid model takes a flow away at the instant it ends; in the emulation its last frames are still in the queues. For
the emulated runs of a sweep it prints how much longer than the fluid's the transfers took that shared a link with a
background connection which ended while they ran or up to `BEFORE_S` before, and the rest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from experiments.comparing.comparison import run_folders
from experiments.comparing.recorded_run import REPLAY, RecordedRun, read_recorded
from experiments.comparing.replay_error import replay_table

BEFORE_S = 0.3


def table_of(run: RecordedRun) -> pd.DataFrame:
    """A row a transfer: whether it met the end of a flow, and both times, seconds."""
    rows = replay_table([run])
    background = run.connections[run.connections["owner"] == "background"]
    moved = run.connections[run.connections["owner"] == "transfer"]
    links_of = {number: {link for links in of["links"] for link in links} for number, of in moved.groupby("number")}
    met = [
        any(
            start_s - BEFORE_S < ended_s < start_s + taken_s and not links_of[number].isdisjoint(links)
            for links, ended_s in zip(background["links"], background["ended_s"], strict=True)
        )
        for number, start_s, taken_s in rows[["request_id", "start_s", "taken_s"]].itertuples(index=False)
    ]
    return pd.DataFrame({"met": met, "taken_s": rows["taken_s"], "fluid_s": rows[REPLAY]})


def main() -> int:
    runs = [read_recorded(folder) for folder in run_folders(Path(sys.argv[1]))]
    table = pd.concat([table_of(run) for run in runs], ignore_index=True)
    excess_s = table["taken_s"].sum() - table["fluid_s"].sum()
    for met, rows in table.groupby("met"):
        more_s = rows["taken_s"].sum() - rows["fluid_s"].sum()
        what = "met the end of a flow" if met else "others"
        share = f"{more_s / rows['fluid_s'].sum():+.1%} of their own time, {more_s / excess_s:.0%} of all excess"
        print(f"{what:<22} {len(rows):>5} transfers: {share}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
