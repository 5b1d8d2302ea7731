"""Words that conclusions share: how a change is written, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

CAVEAT = (
    "Intervals are 95 %: over seeds where there are eight or more, else over blocks of consecutive requests, long"
    " enough to be nearly independent. The first tenth of every run, while queues and caches fill, is not counted."
)


def interval_name(refresh_s: float) -> str:
    """A refresh interval as people say it."""
    return f"{refresh_s:g} s" if math.isfinite(refresh_s) else "never"


def interval_names(refresh_s: Iterable[float]) -> str:
    """The same of several, one after the other: `0.1 s, 1 s, never`."""
    return ", ".join(interval_name(value) for value in refresh_s)


def changed(row: Mapping[Any, Any] | pd.Series, prefix: str = "ttft_change") -> str:
    """A change with its interval: `-7.4 % [-8.1, -6.6]`."""
    return f"{row[f'{prefix}_percent']:+.1f} % [{row[f'{prefix}_low']:+.1f}, {row[f'{prefix}_high']:+.1f}]"


def told(row: Mapping[Any, Any] | pd.Series, prefix: str = "ttft_change") -> str:
    """Which way a change goes, where its interval tells."""
    if row[f"{prefix}_high"] < 0:
        return "a gain"
    return "a loss" if row[f"{prefix}_low"] > 0 else "no difference can be told"


def seeds_of(row: Mapping[Any, Any] | pd.Series) -> str:
    count = int(row["seeds"])
    return f"{count} seed{'s' if count != 1 else ''}"


def against_claim(best: Mapping[Any, Any] | pd.Series, claimed: float, claim: str) -> str:
    """The row of the largest gain of several beside the change that the paper claims as `up to`."""
    if best["ttft_change_low"] <= claimed <= best["ttft_change_high"]:
        met = "cannot be told from"
    elif best["ttft_change_high"] < claimed:
        met = "is beyond"
    else:
        met = "falls short of"
    return f"the largest, {changed(best)}, {met} the paper's `up to` {claimed:+.1f} % ({claim})"
