"""The answer in three sentences: what NetKV gains, what an old snapshot costs, and how far the evidence carries.

The sentences choose the condition to speak of; its figures are rows of the tidy frame, judged as those of a sweep are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.analysis import (
    WITHOUT_TELEMETRY,
    Interval,
    against_freshest,
    aged_changes,
    change_column,
    counted,
    informed,
    invariance,
    paired_requests,
    percent_change,
    refresh_name,
    refresh_numbers,
    retained_telemetry,
    tidy,
)
from experiments.drawing import style_of
from experiments.questions import BASELINE
from experiments.report.collect import CollectedSweep
from experiments.report.typesetting import WORLDS
from experiments.report.world_comparison import WorldComparison
from serving import RequestRecord

HERO = "netkv_full"
UNDECIDED = (
    "Whether an old telemetry snapshot costs anything cannot be decided from this folder: no policy of it ran with two"
    " refresh intervals that its runs were long enough for."
)
STANDARD = {"world", "workload", "seed", "refresh_s", "run", "verdict", "slo_met", "snapshots", "correlation_s"}


def three_sentences(sweeps: Sequence[CollectedSweep], comparison: WorldComparison | None) -> list[str]:
    """Gain, staleness and evidence, in this order; each says so where the folder does not show it."""
    trusted = pd.concat([_trusted(sweep, place) for place, sweep in enumerate(sweeps)], ignore_index=True)
    return [_gain(trusted), _staleness(trusted), _evidence(sweeps, comparison)]


def _trusted(sweep: CollectedSweep, place: int) -> pd.DataFrame:
    """The requests of the runs that count, with `cell` for the condition that policies are compared within."""
    requests = counted(sweep.requests)
    fields = {*(item.name for item in dataclasses.fields(RequestRecord)), *STANDARD}
    axes = [name for name in requests.columns if name not in fields]
    cell = requests.groupby(["world", "workload", *axes], dropna=False, sort=False).ngroup()
    return requests.assign(cell=cell, sweep=place, refresh_s=refresh_numbers(requests["refresh_s"]))


def _rows(requests: pd.DataFrame) -> pd.DataFrame:
    """The tidy frame of one condition, with the same columns as that of the staleness sweep."""
    return tidy(requests, (), (BASELINE, WITHOUT_TELEMETRY), against_freshest).sort_values("refresh_s")


def _gain(trusted: pd.DataFrame) -> str:
    """Against round-robin (and NetKV-Static), in the condition that has most requests of the better world."""
    found = _comparable(trusted)
    if found is None:
        runs = trusted.groupby("policy")["ttft_ms"].mean()
        means = ", ".join(f"{mean:.0f} ms with {style_of(str(policy)).label}" for policy, mean in runs.items())
        return (
            f"The mean time to first token was {means}; no other policy served the same requests beside round-robin"
            " in this folder, so there is no gain to compare."
            if means
            else "No run of this folder can be trusted, so it says nothing of any policy."
        )
    requests, policy = found
    rows = _rows(requests)
    row = rows[rows["policy"] == policy].iloc[0]
    aged = "" if pd.isna(row["refresh_s"]) else f" and telemetry refreshed every {refresh_name(row['refresh_s'])}"
    base, mine = requests[requests["policy"] == BASELINE], requests[requests["policy"] == policy]
    pairs = paired_requests(base, mine[mine["refresh_s"].isna() | (mine["refresh_s"] == row["refresh_s"])])
    text = (
        f"In {WORLDS[str(row['world'])]}, with the {row['workload']} workload{aged}, {style_of(policy).label} changed"
        f" the mean time to first token by {percent_change(Interval.of_row(row, 'ttft_change'))} against round-robin"
        f" over {pairs} paired requests"
    )
    against = Interval.of_row(row, change_column(WITHOUT_TELEMETRY, (BASELINE, WITHOUT_TELEMETRY)))
    if policy != WITHOUT_TELEMETRY and (requests["policy"] == WITHOUT_TELEMETRY).any():
        text += f", and by {percent_change(against)} against NetKV-Static, which reads no telemetry"
    return text + "."


def _comparable(trusted: pd.DataFrame) -> tuple[pd.DataFrame, str] | None:
    """The requests of one condition, and the policy to speak of: NetKV-Full, else the best one beside round-robin.

    Of all conditions with round-robin, an emulated one, with NetKV-Full and NetKV-Static, and with most requests of the
    policy's freshest snapshot. None without round-robin.
    """
    best: tuple[Any, ...] | None = None
    for _, rows in trusted.groupby(["sweep", "cell"], sort=False):
        others = rows[rows["policy"] != BASELINE]
        if len(others) == len(rows) or others.empty:
            continue
        policy = HERO if (others["policy"] == HERO).any() else others.groupby("policy")["ttft_ms"].mean().idxmin()
        mine = others[others["policy"] == policy]
        freshest = mine[mine["refresh_s"].isna() | (mine["refresh_s"] == mine["refresh_s"].min())]
        without_telemetry = bool((others["policy"] == WITHOUT_TELEMETRY).any())
        worth = (rows["world"].iloc[0] == "emulated", policy == HERO, without_telemetry, len(freshest))
        if best is None or worth > best[0]:
            best = (worth, (rows, str(policy)))
    return best[1] if best else None


def _staleness(trusted: pd.DataFrame) -> str:
    """The change of the mean TTFT of NetKV-Full from its freshest snapshot to its oldest."""
    best: tuple[Any, ...] | None = None
    aged = informed(trusted.dropna(subset=["refresh_s"]))
    for (sweep, cell, policy), requests in aged.groupby(["sweep", "cell", "policy"], sort=False):
        intervals = requests["refresh_s"].nunique()
        if intervals > 1:
            worth = (requests["world"].iloc[0] == "emulated", policy == HERO, intervals, len(requests))
            if best is None or worth > best[0]:
                best = (worth, str(policy), (trusted["sweep"] == sweep) & (trusted["cell"] == cell))
    if best is None:
        return UNDECIDED
    _, policy, here = best
    rows = _rows(trusted[here & trusted["policy"].isin((policy, WITHOUT_TELEMETRY))])
    rows = informed(rows[rows["policy"] == policy])
    if len(rows) < 2:
        return UNDECIDED
    oldest = aged_changes(rows)[-1]
    found = invariance([oldest.change])
    if found.verdict == "invariant":
        so = f"within {found.margin:g} % either way{_kept(rows)}"
    elif oldest.change.significance == "higher":
        so = "so staleness is not free"
    else:
        so = f"which does not show that it is invariant (our margin is {found.margin:g} %)"
    return (
        f"With telemetry refreshed every {refresh_name(oldest.refresh_s)} instead of every"
        f" {refresh_name(rows['refresh_s'].iloc[0])}, the mean time to first token of {style_of(policy).label} in"
        f" {WORLDS[str(rows['world'].iloc[0])]} changes by {percent_change(oldest.change)}, {so}."
    )


def _kept(rows: pd.DataFrame) -> str:
    """What a change within the margin is worth: beside the gain of telemetry itself, where that is known."""
    retained = retained_telemetry(rows)
    if retained is None:
        return " (without NetKV-Static beside it, what there was to lose is not known)"
    if retained.found.verdict == "nothing to lose":
        return ", and there was nothing to lose: the freshest snapshot gains nothing significant over NetKV-Static"
    oldest = retained.shares[-1].change
    kept = f"{oldest.value:.0f} % [{oldest.low:.0f}, {oldest.high:.0f}]"
    return f", and {kept} of the gain over NetKV-Static, which reads no telemetry, is kept"


def _evidence(sweeps: Sequence[CollectedSweep], comparison: WorldComparison | None) -> str:
    """What stands behind it: verdicts of the emulated runs and the error of the fluid model on them."""
    runs = [run for sweep in sweeps for run in sweep.runs]
    emulated = [run for run in runs if run.spec.world == "emulated"]
    if not emulated:
        return (
            f"All {len(runs)} runs are of the fluid model, which does what its equations say: nothing of this was"
            " measured on real packets."
        )
    valid = sum(run.verdict == "valid" for run in emulated)
    share = f"{valid} of {len(emulated)} emulated runs, on real packets, are"
    if valid == len(emulated):
        share = f"Every emulated run, on real packets ({valid}), is"
    text = f"{share} valid by every probe"
    if comparison is None:
        return text + "; none of them could be replayed in the fluid model."
    kv = comparison.report["replay"]["kv_transfer"]
    missed = kv["median_abs_error"]
    text += f"; given their decisions, the fluid model misses half of the transfers by more than {missed:.0%}"
    taus = [ranking["kendall_tau"] for ranking in comparison.report["independent"]["rankings"]]
    if taus:
        text += f", and ranks the policies with Kendall's tau of {sum(taus) / len(taus):.2f} (1: alike)"
    return text + "."
