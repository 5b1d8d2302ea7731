"""What a comparison says in each of several places, regimes or hard cases: where it gains, loses, or neither."""

from __future__ import annotations

import math

import pandas as pd

from experiments.analysis import CONFIDENCE, Interval, percent_change


def by_place(rows: pd.DataFrame, prefix: str, label: str, places: str, on: str = "") -> str:
    """Places by what the comparison in the columns `prefix` says there, Holm's correction included.

    `label`: the column that names a place; `places`: what several of them are called; `on`: the word before the policy
    in the column `public` that was the reference there, where that is told.
    """
    found: dict[str, list[str]] = {"lower": [], "higher": [], "none": []}
    unseen: list[float] = []
    for row in rows.to_dict("records"):
        change = Interval.of_row(row, prefix)
        significant = row[f"{prefix}_p_holm"] < 1 - CONFIDENCE
        which = "none" if not significant else "lower" if change.value < 0 else "higher"
        against = f" {on} {row['public']}" if on else ""
        found[which].append(f"{row[label]} {percent_change(change)}{against}")
        unseen += [row[f"{prefix}_detectable"]] if which == "none" else []
    names = {"lower": "a gain", "higher": "a loss", "none": "no significant difference"}
    parts = [
        f"{names[which]} in {len(at)} of {len(rows)} {places} ({'; '.join(at)})" for which, at in found.items() if at
    ]
    text = ", ".join(parts)
    could = [value for value in unseen if not math.isnan(value)]
    if could:
        text += f"; a change of {max(could):.1f} % would have been seen there (80 % power)"
    return text


def best_public(rows: pd.DataFrame, place: str) -> str:
    """What the second reference is called: the best public policy of each place, and how it was chosen."""
    one = int(rows["seeds"].max()) == 1
    chosen = "on the same seed, for want of others" if one else "for each seed on all others"
    return f"the best public policy of each {place}, chosen {chosen}"
