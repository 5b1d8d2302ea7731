"""Time between tokens with one policy against another: two run folders of the same requests, request by request.

`python -m experiments.comparing.tbt WITH WITHOUT [FIGURE.png]` prints the paired difference and draws both
distributions. The claim it serves: a scheduler that only chooses where a request goes adds little (C7) to the time
between tokens.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.analysis import margins
from experiments.running import json_text, read_manifest, read_table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TbtChange:
    """Mean TBT (a request's mean gap between tokens) of both runs, and the mean of the paired differences.

    NaN where no request of both has two tokens. No interval: TBT differs by run more than by request, and a sweep has
    more seeds than one (docs/explanation/intervals.md).
    """

    requests: int
    with_ms: float
    without_ms: float
    change_ms: float
    p99_change_ms: float


def tbt_change(with_policy: pd.DataFrame, without: pd.DataFrame) -> tuple[TbtChange, Floats, Floats]:
    """Compare two `requests` tables over the requests that completed in both and have a gap at all, in milliseconds."""
    keys = ["request_id", "tpot_ms"]
    tables = [
        table.loc[(table["status"] == "completed") & (table["output_length"] > 1), keys]
        for table in (with_policy, without)
    ]
    pairs = tables[0].merge(tables[1], on="request_id", suffixes=("_with", "_without"))
    one, other = (pairs[f"tpot_ms_{which}"].to_numpy(dtype=float) for which in ("with", "without"))
    if not len(pairs):
        return TbtChange(0, *[math.nan] * 4), one, other
    p99 = float(np.percentile(one, 99) - np.percentile(other, 99))
    return TbtChange(len(pairs), float(one.mean()), float(other.mean()), float((one - other).mean()), p99), one, other


def draw(place: Path, one: Floats, other: Floats, names: tuple[str, str], world: str) -> list[Path]:
    """Both distributions, and that of the differences, as PNG and SVG."""
    import matplotlib.pyplot as plt

    from experiments.drawing import paper, put_title, save_figure, style_of

    with paper():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
        share = 100 * np.arange(1, len(one) + 1) / len(one)
        for values, name in ((one, names[0]), (other, names[1])):
            style = style_of(name)
            left.plot(np.sort(values), share, color=style.colour, linestyle=style.dash, label=style.label)
        left.set(xlabel="Time between tokens of a request (ms)", ylabel=f"Requests, {world} world (%)")
        right.plot(np.sort(one - other), share, color="#444444")
        right.axvspan(-margins.TBT_MARGIN_MS, margins.TBT_MARGIN_MS, color="#009E73", alpha=0.15, lw=0)
        right.set_xlabel("Difference for the same request (ms)")
        for axis in (left, right):
            axis.grid()
        labels = [style_of(name).label for name in names]
        bound = f"within {margins.TBT_MARGIN_MS} ms, the paper's bound on the mean (C7)"
        note = f"Right: {labels[0]} less {labels[1]}. Shaded: {bound}."
        put_title(figure, "What does a policy do to the time between tokens?", note, left)
        return save_figure(figure, place.with_suffix(""))


def main(arguments: list[str]) -> int:
    folders = [Path(argument) for argument in arguments[:2]]
    if len(folders) < 2:
        print("usage: python -m experiments.comparing.tbt WITH WITHOUT [FIGURE.png]", file=sys.stderr)
        return 2
    specs = [read_manifest(folder)["spec"] for folder in folders]
    change, one, other = tbt_change(*(read_table(folder, "requests") for folder in folders))
    names = (str(specs[0]["policy"]), str(specs[1]["policy"]))
    said = {"with": names[0], "without": names[1], "world": specs[0]["world"], **asdict(change)}
    print(json_text(said), end="")
    if len(arguments) > 2:
        draw(Path(arguments[2]), one, other, names, str(specs[0]["world"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
