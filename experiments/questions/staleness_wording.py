"""What the staleness sweep says, in sentences: the findings of `experiments.analysis` put into words."""

from __future__ import annotations

import math

import pandas as pd

from experiments.analysis import (
    CAVEAT,
    WITHOUT_TELEMETRY,
    AgedChange,
    Interval,
    RetainedTelemetry,
    informed,
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

BEST_PUBLIC = "llmd_topology"
"""The public policy with the lowest mean TTFT in the set-up of the main job (docs/explanation/staleness.md)."""


def sentences(results: pd.DataFrame) -> list[str]:
    """The answer, then a finding each, of every world, workload and policy that reads telemetry; at last the caveat."""
    said = []
    kinds = results["congestion"].nunique()
    reading = results.dropna(subset=["refresh_s"])
    places = ["world", "workload", "congestion", "policy"]
    for (world, workload, congestion, policy), rows in reading.groupby(places, sort=False):
        ordered = informed(rows).sort_values("refresh_s")
        where = f"{policy} on {workload} in the {world} world" + (f", {congestion} traffic" if kinds > 1 else "")
        said += [f"{where}: {text}." for text in refused(rows)]
        if len(ordered) < 2:
            said.append(f"{where}: {_at_one_age(ordered)}.")
            continue
        found = [_invariance(ordered), _transfers(ordered), _others(ordered), _robustness(ordered), _gain(ordered)]
        said += [f"{where}: {text}." for text in [*_answer(ordered), *found, *_worth(ordered), *_public(ordered)]]
    if said:
        said.append(CAVEAT)
    return said


def swept(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of each kind of congestion that was run with snapshots of several ages; all rows where none was."""
    ages = results.groupby("congestion")["refresh_s"].nunique()
    several = ages.index[ages > 1]
    return results[results["congestion"].isin(several)] if len(several) else results


def refused(rows: pd.DataFrame) -> list[str]:
    """Refresh intervals that the runs were too short for."""
    few = rows.drop(informed(rows).index)
    return [
        f"nothing is said of a refresh interval of {refresh_name(row['refresh_s'])}: the decisions of a run were based"
        f" on {row['snapshots']:g} telemetry snapshot{'s' if row['snapshots'] != 1 else ''}, and it takes"
        f" {margins.LEAST_SNAPSHOTS}"
        for _, row in few.iterrows()
    ]


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


def _answer(rows: pd.DataFrame) -> list[str]:
    """In three sentences: what telemetry is worth here, how much of it an old snapshot loses, and how sure that is."""
    retained = retained_telemetry(rows)
    if retained is None:
        if rows[f"ttft_change_{WITHOUT_TELEMETRY}_percent"].notna().any():
            missing = f"without a seed that has valid runs of {WITHOUT_TELEMETRY} and at every refresh interval"
        else:
            missing = f"without {WITHOUT_TELEMETRY} in the sweep"
        return [f"{missing} nobody knows what telemetry is worth here, nor what age costs"]
    return [_worth_of_fresh(rows, retained), _lost(rows, retained), _sureness(rows)]


def _at_one_age(rows: pd.DataFrame) -> str:
    """What telemetry of one age is worth over none, where that was run: nothing of what age costs."""
    if rows.empty or math.isnan(rows.iloc[0]["telemetry_gain_ms"]):
        return "one refresh interval says nothing about staleness"
    row = rows.iloc[0]
    gain_ms = Interval.of_row(row, "telemetry_gain", "ms")
    so = {
        "higher": "telemetry is worth something even so",
        "lower": "telemetry costs something",
        "none": "telemetry is worth nothing that could be seen",
    }[gain_ms.significance]
    change = Interval.of_row(row, f"ttft_change_{WITHOUT_TELEMETRY}")
    return (
        f"{so}: with a snapshot every {_age(row)} the mean TTFT differs from {WITHOUT_TELEMETRY}'s by"
        f" {percent_change(change)}, where {float(row[f'ttft_change_{WITHOUT_TELEMETRY}_detectable']):.1f} % would have"
        " been seen"
    )


def _worth_of_fresh(rows: pd.DataFrame, retained: RetainedTelemetry) -> str:
    gain_ms = retained.gain_ms
    so = {
        "higher": "telemetry is worth something here",
        "lower": "telemetry costs something here",
        "none": "telemetry is worth nothing here that could be seen",
    }[gain_ms.significance]
    change = Interval.of_row(rows.iloc[0], f"ttft_change_{WITHOUT_TELEMETRY}")
    return (
        f"{so}: with a snapshot every {_age(rows.iloc[0])} the mean TTFT differs from {WITHOUT_TELEMETRY}'s, which"
        f" reads none, by {percent_change(change)} ({gain_ms.value:+.0f} ms saved [{gain_ms.low:+.0f},"
        f" {gain_ms.high:+.0f}])"
    )


def _lost(rows: pd.DataFrame, retained: RetainedTelemetry) -> str:
    found = retained.found
    if found.verdict == "nothing to lose":
        return "so there was no gain that could be seen for an old snapshot to lose"
    shares = [
        f"{one.change.value:.0f} % [{one.change.low:.0f}, {one.change.high:.0f}] at {_age(row)}"
        for one, (_, row) in zip(retained.shares, rows.iloc[1:].iterrows(), strict=True)
    ]
    below = refresh_names(retained.shares[place].refresh_s for place in found.below)
    so = {
        "kept": f"an old snapshot keeps it, significantly at least {found.margin:g} % at every age",
        "lost": f"an old snapshot loses it, significantly more than {100 - found.margin:g} % at {below}",
        "undecided": f"whether an old snapshot keeps {found.margin:g} % of it is not decided",
    }[found.verdict]
    return f"{so}: of that gain it keeps {', '.join(shares)}"


def _sureness(rows: pd.DataFrame) -> str:
    could = float(rows[f"ttft_change_{WITHOUT_TELEMETRY}_detectable"].max())
    fewest = rows.sort_values("requests").iloc[0]
    lost = int(rows["left_out"].sum())
    without = f"{lost} run{'s' if lost != 1 else ''} fewer than were made, invalid" if lost else "every run made"
    return (
        f"that rests on {seeds_name(int(rows['seeds'].min()))} and {int(fewest['requests'])} requests a row, in which a"
        f" change of {could:.1f} % would have been seen (80 % power), and on {without}"
    )


def _age(row: pd.Series) -> str:
    """A refresh interval, in correlation times of the congestion, too."""
    ratio = float(row["refresh_s"] / row["correlation_s"])
    times = f" ({ratio:.2g} times the congestion's correlation time)" if math.isfinite(ratio) and ratio else ""
    return f"{refresh_name(float(row['refresh_s']))}{times}"


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


def _public(rows: pd.DataFrame) -> list[str]:
    """Against the best public policy, where that was run: a gain over round-robin is soon had."""
    if (prefix := f"ttft_change_{BEST_PUBLIC}") + "_percent" not in rows:
        return []
    ends = (rows.iloc[0], rows.iloc[-1])
    changes = [Interval.of_row(row, prefix) for row in ends]
    if any(math.isnan(change.value) for change in changes):
        return []
    at = [
        f"{percent_change(change)} at {refresh_name(row['refresh_s'])}"
        for change, row in zip(changes, ends, strict=True)
    ]
    return [f"TTFT against {BEST_PUBLIC}, the best public policy in the main job, {', '.join(at)}"]
