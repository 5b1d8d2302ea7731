"""What the sweep of faults says: what each kind of faults costs, who loses least by it, and who more than that one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from experiments.analysis import CAVEAT, CONFIDENCE, MEASURES, TTFT_LOSS, Interval, Measure, loss, margins, seeds_name
from scheduler import reads_telemetry

NONE = "none"
LIVE, STALE = "link_down", "link_stale"
"""The same failed links with telemetry and without."""

SIGNIFICANT = 1 - CONFIDENCE

WHAT = {"ttft": "mean TTFT", "slo": "requests that miss their SLO", "failed": "requests that fail"}
UNIT = {"percent": "%", "points": "points"}
MARGINS = {"ttft": margins.TTFT_MARGIN_PERCENT, "slo": margins.SLO_MARGIN_POINTS, "failed": margins.SLO_MARGIN_POINTS}
"""Who loses at most so much more than the gentlest is as graceful in practice."""


def stale_cost(group: pd.DataFrame, beside: pd.DataFrame) -> Mapping[str, float]:
    """`stale_percent` and so on: the change of the mean TTFT when links fail unseen instead of seen, same policy.

    NaN for other rows than those of `link_stale`, and for policies that read no telemetry: they are the same run twice.
    """
    policy = str(group["policy"].iloc[0])
    of_policy = beside[beside["policy"] == policy]
    stale = group if group["faults"].iloc[0] == STALE and reads_telemetry(policy) else group.iloc[:0]
    found = loss(of_policy[of_policy["faults"] == LIVE], stale, TTFT_LOSS)
    low, high = found.interval()
    return {
        **{"stale_percent": found.value, "stale_low": low, "stale_high": high},
        **{"stale_detectable": found.detectable(), "stale_p": found.p()},
    }


def sentences(results: pd.DataFrame) -> list[str]:
    """By world and workload: the answer, then by kind of faults its costs and who loses more than the gentlest."""
    said: list[str] = []
    for (world, workload), here in results.groupby(["world", "workload"], sort=False):
        where = f"faults on {workload} in the {world} world"
        broken = here[here["faults"] != NONE].dropna(subset=["ttft_loss_percent"])
        if broken.empty:
            continue
        said.append(f"{where}: which policy degrades most gracefully? {_answer(broken)}.")
        for kind, rows in broken.groupby("faults", sort=False):
            costs = "; ".join(_cost(rows, measure) for measure in MEASURES)
            blind = rows["ttft_loss_p"].isna() & rows["ttft_loss_low"].notna()
            aside = f" (not judged again: {int(blind.sum())} policies that read no telemetry)" if blind.any() else ""
            said.append(f"{where}, {kind}, against the same run without faults{aside}: {costs}.")
            told = [text for measure in MEASURES if (text := _gentlest(rows, measure))]
            if told:
                said.append(f"{where}, {kind}, who loses least: {'; '.join(told)}.")
        said += [f"{where}, {STALE}: {text}." for text in _unseen(broken)]
    return [*said, CAVEAT] if said else []


def _answer(broken: pd.DataFrame) -> str:
    """Policies that certainly lose nowhere a margin more than the gentlest, those of the others that lose significantly
    more than it somewhere, and those of which neither is sure."""
    behind: dict[str, list[str]] = {}
    undecided: list[str] = []
    near: list[str] = []
    for policy, rows in broken.groupby("policy", sort=False):
        judged = list(_excesses(rows))
        beyond = [
            f"{kind} ({WHAT[measure.name]} {change.value:+.1f} {UNIT[measure.unit]})"
            for kind, measure, change, significant in judged
            if significant
        ]
        if judged and all(change.high < MARGINS[measure.name] for _, measure, change, _ in judged):
            near.append(str(policy))
        elif beyond:
            behind[str(policy)] = beyond
        else:
            undecided.append(str(policy))
    margin = f"{MARGINS['ttft']:g} % of the mean TTFT or {MARGINS['slo']:g} points of the requests"
    said = [f"{', '.join(near)}: nowhere as much as {margin} worse than whoever loses least"] if near else []
    if behind:
        worse = sorted(behind, key=lambda name: len(behind[name]))
        told = "; ".join(f"{name} in {_listed(behind[name])}" for name in worse)
        said.append(f"significantly worse somewhere: {told}")
    if undecided:
        said.append(f"not decided: {', '.join(undecided)}")
    return "; ".join(said)


def _excesses(rows: pd.DataFrame) -> Iterator[tuple[str, Measure, Interval, bool]]:
    """What each kind of faults costs a policy beyond the gentlest, where that was judged, and if it is significant."""
    for row in rows.to_dict("records"):
        for measure in MEASURES:
            p = row[f"{measure.name}_excess_p_holm"]
            if not math.isnan(p):
                change = Interval.of_row(row, f"{measure.name}_excess", measure.unit)
                yield str(row["faults"]), measure, change, p < SIGNIFICANT and change.value > 0


def _listed(names: list[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]


def _cost(rows: pd.DataFrame, measure: Measure) -> str:
    """What one kind of faults costs by one measure: who loses or gains significantly, with the ends of the range."""
    prefix, unit = f"{measure.name}_loss", UNIT[measure.unit]
    changes = [(row["policy"], Interval.of_row(row, prefix, measure.unit), row) for row in rows.to_dict("records")]
    found = [one for one in changes if one[2][f"{prefix}_p_holm"] < SIGNIFICANT]
    lost = [one for one in found if one[1].value > 0]
    parts = [
        f"{word} for {_range(some, unit)}"
        for word, some in (("more", lost), ("less", [one for one in found if one[1].value <= 0]))
        if some
    ]
    same = [one for one in changes if one[2][f"{prefix}_p_holm"] >= SIGNIFICANT]
    if same:
        could = [row[f"{prefix}_detectable"] for _, _, row in same if row[f"{prefix}_detectable"] > 0]
        seen = f", where {max(could):.1f} {unit} would have been seen (80 % power)" if could else ""
        who = f"the other {len(same)}" if parts else f"all {len(same)}"
        parts.append(f"no significant difference for {who}{seen}")
    elif not parts:
        parts = [f"not judged, {_range(changes, unit)}"]
    return f"{WHAT[measure.name]}: {', '.join(parts)}"


def _range(some: list[tuple[str, Interval, dict[Any, Any]]], unit: str) -> str:
    """`2 (cla +1.0 % [+0.5, +1.5]; random +2.0 % [+1.0, +3.0])`; of more than three the ends alone have figures."""
    ordered = sorted(some, key=lambda one: one[1].value)
    shown = [f"{name} {_figure(change, unit)}" for name, change, _ in ordered]
    if len(shown) > 3:
        between = ", ".join(name for name, _, _ in ordered[1:-1])
        return f"{len(shown)} policies ({shown[0]}, then {between}, to {shown[-1]})"
    return f"{len(shown)} ({'; '.join(shown)})"


def _gentlest(rows: pd.DataFrame, measure: Measure) -> str:
    """Who loses least by a measure, and who significantly more; nothing where nobody loses significantly."""
    if not any((rows[f"{measure.name}_{what}_p_holm"] < SIGNIFICANT).any() for what in ("loss", "excess")):
        return ""  # whoever is least is least by chance
    prefix, unit = f"{measure.name}_excess", UNIT[measure.unit]
    first = rows.iloc[0]
    seeds = int(first["seeds"])
    chosen = "on the same seed" if seeds == 1 else "on the other seeds"
    name, times = first[f"{measure.name}_gentlest"], int(first[f"{measure.name}_gentlest_seeds"])
    more: list[str] = []
    unseen: list[float] = []
    for row in rows.to_dict("records"):
        change = Interval.of_row(row, prefix, measure.unit)
        if row[f"{prefix}_p_holm"] < SIGNIFICANT and change.value > 0:
            more.append(f"{row['policy']} {_figure(change, unit)}")
        elif not math.isnan(row[f"{prefix}_p"]):
            unseen.append(row[f"{prefix}_detectable"])
    could = [value for value in unseen if value > 0]
    seen = f"; {max(could):.1f} {unit} more would have been seen (80 % power)" if could else ""
    told = f"significantly more than it: {'; '.join(more)}" if more else "nobody significantly more"
    return f"by {WHAT[measure.name]} {name} (chosen {chosen} for {times} of {seeds_name(seeds)}), {told}{seen}"


def _unseen(broken: pd.DataFrame) -> Iterator[str]:
    """What it costs a policy that reads telemetry when no snapshot tells of the failed links."""
    rows = broken.dropna(subset=["stale_percent"])
    told = [
        f"{row['policy']} {_figure(Interval.of_row(row, 'stale'), '%')}"
        + ("" if row["stale_p_holm"] < SIGNIFICANT else f", not significant ({_seen(row['stale_detectable'])})")
        for row in rows.to_dict("records")
    ]
    if told:
        yield f"with an old snapshot instead of live telemetry, mean TTFT: {'; '.join(told)}"


def _seen(detectable: float) -> str:
    return "one run" if math.isnan(detectable) else f"{detectable:.1f} % would have been seen, 80 % power"


def _figure(change: Interval, unit: str) -> str:
    """`+4.1 % [+2.0, +6.2]`; of one unit of statistics without the interval."""
    said = f"{change.value:+.1f} {unit}"
    return said if math.isnan(change.low) else f"{said} [{change.low:+.1f}, {change.high:+.1f}]"
