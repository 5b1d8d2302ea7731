"""What the staleness sweep says, in sentences: whether robustness (C3) and invariance hold, where, how surely.

Pure functions from the table of results to words. The margins are ours: the paper gives no test.
"""

from __future__ import annotations

import math

import pandas as pd

from experiments.analysis import CAVEAT, changed, interval_name, interval_names, seeds_of

MARGIN_PERCENT = 5.0
"""A change of the mean TTFT within this is none in practice: invariance holds where the whole interval is inside."""

TBT_MARGIN_MS = 0.5
"""The paper's own bound on NetKV's overhead in the time between tokens (C7)."""

SLO_MARGIN_POINTS = 5.0
ROBUST_SHARE = 0.9
"""C3, as far as a run can show it: this share of the requests goes over the same tier as with the freshest view."""


def sentences(results: pd.DataFrame) -> list[str]:
    """One finding a world, workload and policy that reads telemetry; the last sentence says what no sweep can."""
    said = []
    swept = results.dropna(subset=["refresh_s"])
    for (world, workload, policy), rows in swept.groupby(["world", "workload", "policy"], sort=False):
        ordered = rows.sort_values("refresh_s")
        where = f"{policy} on {workload} in the {world} world"
        if len(ordered) < 2:
            said.append(f"{where}: one refresh interval says nothing about staleness.")
            continue
        said += [_invariance(ordered, where), _transfers(ordered, where), _others(ordered, where)]
        said += [_robustness(ordered, where), _gain(ordered, where), *_worth(ordered, where)]
    if said:
        said.append(CAVEAT)
    return said


def _invariance(rows: pd.DataFrame, where: str) -> str:
    """Whether the mean TTFT stays within the margin at every age, leaves it, or cannot be told."""
    first, aged = rows.iloc[0], rows.iloc[1:]
    names = f"from {interval_name(first['refresh_s'])} to {interval_name(rows.iloc[-1]['refresh_s'])}"
    worst = aged.iloc[int(aged["aged_change_percent"].abs().to_numpy().argmax())]
    change = f"{changed(worst, 'aged_change')} at {interval_name(worst['refresh_s'])} ({seeds_of(worst)})"
    left = aged[(aged["aged_change_low"] > MARGIN_PERCENT) | (aged["aged_change_high"] < -MARGIN_PERCENT)]
    inside = (aged["aged_change_low"] >= -MARGIN_PERCENT) & (aged["aged_change_high"] <= MARGIN_PERCENT)
    if len(left):
        since = interval_name(left.iloc[0]["refresh_s"])
        beyond = f"it leaves +/-{MARGIN_PERCENT:g} % at {since}"
        return f"{where}: mean TTFT is NOT invariant {names}: {beyond}; worst {change}."
    if inside.all():
        return f"{where}: mean TTFT is invariant {names} within +/-{MARGIN_PERCENT:g} %; worst {change}."
    reach = aged[["aged_change_low", "aged_change_high"]].abs().max(axis=1)
    widest = aged.iloc[int(reach.to_numpy().argmax())]
    return (
        f"{where}: whether mean TTFT is invariant {names} cannot be told: an interval reaches beyond"
        f" +/-{MARGIN_PERCENT:g} %, {changed(widest, 'aged_change')} at {interval_name(widest['refresh_s'])}"
        f" ({seeds_of(widest)})."
    )


def _transfers(rows: pd.DataFrame, where: str) -> str:
    """The same of the KV transfer alone, the part of TTFT that the view is about: prefill dilutes it."""
    aged = rows.iloc[1:]
    worst = aged.iloc[int(aged["aged_kv_percent"].abs().to_numpy().argmax())]
    return (
        f"{where}: the mean KV transfer alone changes by {changed(worst, 'aged_kv')} at worst, at"
        f" {interval_name(worst['refresh_s'])}."
    )


def _others(rows: pd.DataFrame, where: str) -> str:
    """The same of the time between tokens and the SLO, by the spread of their means."""
    tbt_ms = rows["tpot_ms"].max() - rows["tpot_ms"].min()
    slo_points = 100 * (rows["slo_attainment"].max() - rows["slo_attainment"].min())
    tbt = "stays within" if tbt_ms <= TBT_MARGIN_MS else "moves beyond"
    slo = "within" if slo_points <= SLO_MARGIN_POINTS else "beyond"
    return (
        f"{where}: TBT {tbt} {TBT_MARGIN_MS:g} ms (spread {tbt_ms:.2f} ms), SLO attainment {slo}"
        f" {SLO_MARGIN_POINTS:g} points (spread {slo_points:.1f})."
    )


def _robustness(rows: pd.DataFrame, where: str) -> str:
    aged = rows.iloc[1:]
    worst = aged.iloc[int(aged["same_tier"].to_numpy().argmin())]
    share, at = worst["same_tier"], interval_name(worst["refresh_s"])
    if share >= ROBUST_SHARE:
        return f"{where}: consistent with C3: at least {share:.0%} of the requests keep their tier (fewest at {at})."
    return (
        f"{where}: C3 does not carry over to whole runs: only {share:.0%} of the requests keep their tier at {at}"
        f" (C3's bound is on one ranking, and earlier choices change the state of later ones)."
    )


def _gain(rows: pd.DataFrame, where: str) -> str:
    """What is left of the gain over round-robin at the oldest view, where round-robin was run."""
    fresh, old = rows.iloc[0], rows.iloc[-1]
    if math.isnan(fresh["ttft_change_percent"]):
        return f"{where}: without round-robin in the sweep there is no gain to compare."
    kept = old["ttft_change_high"] < 0
    return (
        f"{where}: TTFT against round-robin {fresh['ttft_change_percent']:+.1f} % at"
        f" {interval_name(fresh['refresh_s'])}, {changed(old)} at"
        f" {interval_name(old['refresh_s'])}: {'a gain is kept' if kept else 'no gain can be told'}."
    )


def _worth(rows: pd.DataFrame, where: str) -> list[str]:
    """Whether telemetry is worth having at all: against NetKV-Static, where that was run."""
    known = rows.dropna(subset=["ttft_change_netkv_static_percent"])
    if known.empty:
        return []
    fresh = known.iloc[0]
    worst = known.iloc[int(known["ttft_change_netkv_static_percent"].to_numpy().argmax())]
    better = known[known["ttft_change_netkv_static_high"] < 0]
    text = f"{where}: TTFT against netkv_static, which reads no telemetry, {_change(fresh)}, at worst {_change(worst)}"
    if better.empty:
        text += "; no gain of telemetry can be told at any interval"
    else:
        text += f"; a gain of telemetry can be told at a refresh of {interval_names(better['refresh_s'])}"
        untold = known.drop(better.index)
        if len(untold):
            text += f", not at {interval_names(untold['refresh_s'])}"
    if worst["ttft_change_netkv_static_low"] > 0:
        text += "; an old view can cost more than none"
    return [text + "."]


def _change(row: pd.Series) -> str:
    return f"{changed(row, 'ttft_change_netkv_static')} at {interval_name(row['refresh_s'])}"
