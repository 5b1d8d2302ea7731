"""The noise floor of a sweep: by how much two runs of one specification differ."""

from __future__ import annotations

import math

import pandas as pd

from experiments.analysis import Interval, counted, paired_change, percent_change
from experiments.running import CONTROL


def noise_sentence(requests: pd.DataFrame, control: pd.DataFrame | None) -> str | None:
    """What the control run says: the change of mean TTFT and KV transfer from the run that it repeats.

    `requests`: of `read_sweep`; `control`: of `read_control`. None where either is missing or invalid.
    """
    if control is None:
        return None
    name = str(control["run"].iloc[0]).removesuffix(f"-{CONTROL}")
    before, after = counted(requests[requests["run"] == name]), counted(control)
    ttft, kv = (paired_change(before, after, column) for column in ("ttft_ms", "kv_transfer_ms"))
    if math.isnan(ttft.percent):
        return None
    return (
        f"Noise floor: {name} made twice differs by {percent_change(Interval.of_change(ttft))} in mean TTFT and by"
        f" {percent_change(Interval.of_change(kv))} in mean KV transfer; smaller differences of one run mean nothing."
    )
