"""What the staleness sweep says, in sentences: the findings of `experiments.analysis` put into words."""

from __future__ import annotations

import pandas as pd

from experiments.analysis import (
    CAVEAT,
    WITHOUT_TELEMETRY,
    AgedChange,
    kept_gain,
    kv_invariance,
    margins,
    percent_change,
    refresh_name,
    refresh_names,
    retained_telemetry,
    row_tiers_kept,
    seeds_name,
    spread,
    telemetry_worth,
    ttft_invariance,
)


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
        found = [_invariance(ordered), _transfers(ordered), _others(ordered), _robustness(ordered), _gain(ordered)]
        said += [f"{where}: {text}." for text in [*found, *_retained(ordered), *_worth(ordered)]]
    if said:
        said.append(CAVEAT)
    return said


def _invariance(rows: pd.DataFrame) -> str:
    aged, found = ttft_invariance(rows)
    names = f"from {refresh_name(rows['refresh_s'].iloc[0])} to {refresh_name(aged[-1].refresh_s)}"
    margin = f"+/-{found.margin:g} %"
    if found.verdict == "not invariant":
        since = refresh_name(aged[found.beyond[0]].refresh_s)
        return (
            f"mean TTFT is NOT invariant {names}: it leaves {margin} at {since}; worst {_with_seeds(aged[found.worst])}"
        )
    if found.verdict == "invariant":
        return f"mean TTFT is invariant {names} within {margin}; worst {_with_seeds(aged[found.worst])}"
    return (
        f"whether mean TTFT is invariant {names} cannot be decided: an interval reaches beyond {margin},"
        f" {_with_seeds(aged[found.widest])}"
    )


def _with_seeds(aged: AgedChange) -> str:
    return f"{percent_change(aged.change)} at {refresh_name(aged.refresh_s)} ({seeds_name(aged.seeds)})"


def _transfers(rows: pd.DataFrame) -> str:
    worst, found = kv_invariance(rows)
    so = {"invariant": "within", "not invariant": "NOT within", "undecided": "undecided whether within"}
    return (
        f"the mean KV transfer alone changes by {percent_change(worst.change)} at worst, at"
        f" {refresh_name(worst.refresh_s)}: {so[found.verdict]} +/-{found.margin:g} %"
    )


def _retained(rows: pd.DataFrame) -> list[str]:
    """The share of telemetry's own gain, over the policy that reads none, where that was run."""
    retained = retained_telemetry(rows)
    if retained is None:
        return []
    found, gain_ms = retained.found, retained.gain_ms
    gain = f"{gain_ms.value:+.1f} ms [{gain_ms.low:+.1f}, {gain_ms.high:+.1f}]"
    fresh = f"the freshest snapshot gains {gain} on {WITHOUT_TELEMETRY}"
    if found.verdict == "nothing to lose":
        return [f"nothing to lose: {fresh}, no significant gain"]
    least = retained.shares[found.least]
    share = least.change
    kept = (
        f"{share.value:.0f} % [{share.low:.0f}, {share.high:.0f}] of it is kept at {refresh_name(least.refresh_s)}, the"
        " least"
    )
    so = {
        "kept": f"significantly at least {found.margin:g} % everywhere",
        "lost": f"significantly less than {found.margin:g} % at"
        f" {refresh_names(retained.shares[place].refresh_s for place in found.below)}",
        "undecided": f"which does not decide whether at least {found.margin:g} % is kept",
    }
    return [f"{fresh}; {kept}, {so[found.verdict]}"]


def _others(rows: pd.DataFrame) -> str:
    found = spread(rows)
    tbt = "stays within" if found.tbt == "within" else "moves beyond"
    return (
        f"TBT {tbt} {margins.TBT_MARGIN_MS:g} ms (spread {found.tbt_ms:.2f} ms), SLO attainment {found.slo}"
        f" {margins.SLO_MARGIN_POINTS:g} points (spread {found.slo_points:.1f})"
    )


def _robustness(rows: pd.DataFrame) -> str:
    found, share, refresh_s = row_tiers_kept(rows)
    at = refresh_name(refresh_s)
    if found.verdict == "kept":
        return f"consistent with C3: at least {share:.0%} of the requests keep their tier (fewest at {at})"
    return (
        f"C3 does not carry over to whole runs: only {share:.0%} of the requests keep their tier at {at}"
        f" (C3's bound is on one ranking, and earlier choices change the state of later ones)"
    )


def _gain(rows: pd.DataFrame) -> str:
    found = kept_gain(rows)
    if found.verdict == "no reference":
        return "without round-robin in the sweep there is no gain to compare"
    return (
        f"TTFT against round-robin {found.fresh.value:+.1f} % at {refresh_name(found.fresh_s)},"
        f" {percent_change(found.old)} at {refresh_name(found.old_s)}:"
        f" {'a significant gain is kept' if found.verdict == 'kept' else 'no significant gain is left'}"
    )


def _worth(rows: pd.DataFrame) -> list[str]:
    """Against NetKV-Static, where that was run."""
    found = telemetry_worth(rows, "ttft_change_netkv_static")
    if found is None:
        return []
    text = (
        f"TTFT against netkv_static, which reads no telemetry, {percent_change(found.fresh)} at"
        f" {refresh_name(found.fresh_s)}, at worst {percent_change(found.worst)} at {refresh_name(found.worst_s)}"
    )
    if not found.gains_at:
        text += "; telemetry brings no significant gain at any refresh interval"
    else:
        text += f"; telemetry brings a significant gain at a refresh interval of {refresh_names(found.gains_at)}"
        if others := sorted((*found.losses_at, *found.undecided_at)):
            text += f", not at {refresh_names(others)}"
    if found.losses_at:
        text += "; an old telemetry snapshot can cost more than none"
    return [text]
