"""The answer in three sentences: what NetKV gains, what an old view costs, and how far the evidence carries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.analysis import Change, counted, interval_name, paired_change, refresh_numbers
from experiments.drawing import style_of
from experiments.questions import BASELINE, MARGIN_PERCENT, WITHOUT_TELEMETRY
from experiments.report.collect import Sweep
from experiments.report.twins import Comparison
from experiments.report.typesetting import WORLDS
from serving import RequestRecord

HERO = "netkv_full"
STANDARD = {"world", "workload", "seed", "refresh_s", "run", "verdict", "slo_met"}


def three_sentences(sweeps: Sequence[Sweep], comparison: Comparison | None) -> list[str]:
    """Gain, staleness and evidence, in this order; each says so where the folder cannot tell."""
    trusted = pd.concat([_trusted(sweep, place) for place, sweep in enumerate(sweeps)], ignore_index=True)
    return [_gain(trusted), _staleness(trusted), _evidence(sweeps, comparison)]


def _trusted(sweep: Sweep, place: int) -> pd.DataFrame:
    """The requests of the runs that count, with `cell` for the condition that policies are compared within."""
    requests = counted(sweep.requests)
    fields = {*(item.name for item in dataclasses.fields(RequestRecord)), *STANDARD}
    axes = [name for name in requests.columns if name not in fields]
    cell = requests.groupby(["world", "workload", *axes], dropna=False, sort=False).ngroup()
    return requests.assign(cell=cell, sweep=place, refresh_s=refresh_numbers(requests["refresh_s"]))


def _gain(trusted: pd.DataFrame) -> str:
    """Against round-robin (and NetKV-Static), in the condition that has most requests of the better world."""
    compared = _comparable(trusted, BASELINE)
    if compared is None:
        runs = trusted.groupby("policy")["ttft_ms"].mean()
        means = ", ".join(f"{mean:.0f} ms with {style_of(str(policy)).label}" for policy, mean in runs.items())
        return (
            f"The mean time to first token was {means}; no other policy served the same requests beside round-robin"
            " in this folder, so no gain can be told."
            if means
            else "No run of this folder can be trusted, so it says nothing of any policy."
        )
    base, group, policy, world, refresh_s = compared
    change = paired_change(base, group, "ttft_ms")
    name = style_of(policy).label
    aged = "" if pd.isna(refresh_s) else f" and a network view renewed every {interval_name(refresh_s)}"
    text = (
        f"In {WORLDS[world]}, with the {group['workload'].iloc[0]} workload{aged}, {name} changed the mean time to"
        f" first token by {_words(change)} against round-robin over {change.pairs} paired requests"
    )
    blind = trusted[
        (trusted["policy"] == WITHOUT_TELEMETRY) & (trusted["cell"] == group["cell"].iloc[0])
        & (trusted["sweep"] == group["sweep"].iloc[0])
    ]  # fmt: skip
    if policy != WITHOUT_TELEMETRY and len(blind):
        text += (
            f", and by {_words(paired_change(blind, group, 'ttft_ms'))} against NetKV-Static, which reads no telemetry"
        )
    return text + "."


def _comparable(trusted: pd.DataFrame, baseline: str) -> tuple[pd.DataFrame, pd.DataFrame, str, str, float] | None:
    """Baseline's requests and those of NetKV-Full (else the best other policy) with its freshest view.

    Of all conditions, one on packets, with NetKV-Full and NetKV-Static, and with most requests. None without baseline.
    """
    best: tuple[Any, ...] | None = None
    for _, rows in trusted.groupby(["sweep", "cell"], sort=False):
        base, others = rows[rows["policy"] == baseline], rows[rows["policy"] != baseline]
        if base.empty or others.empty:
            continue
        policy = HERO if (others["policy"] == HERO).any() else others.groupby("policy")["ttft_ms"].mean().idxmin()
        mine = others[others["policy"] == policy]
        refresh_s = mine["refresh_s"].min()
        group = mine[mine["refresh_s"].isna() | (mine["refresh_s"] == refresh_s)]
        world = str(rows["world"].iloc[0])
        blind = bool((others["policy"] == WITHOUT_TELEMETRY).any())
        worth = (world == "emulated", policy == HERO, blind, len(group))
        if best is None or worth > best[0]:
            best = (worth, (base, group, str(policy), world, refresh_s))
    return best[1] if best else None


def _staleness(trusted: pd.DataFrame) -> str:
    """The change of NetKV-Full's mean TTFT from its freshest view to its oldest."""
    best: tuple[Any, ...] | None = None
    aged = trusted.dropna(subset=["refresh_s"])
    for (_, _, policy), rows in aged.groupby(["sweep", "cell", "policy"], sort=False):
        intervals = sorted(rows["refresh_s"].unique())
        if len(intervals) > 1:
            worth = (rows["world"].iloc[0] == "emulated", policy == HERO, len(intervals), len(rows))
            if best is None or worth > best[0]:
                best = (worth, rows, str(policy), intervals)
    if best is None:
        return (
            "Whether an old view of the network costs anything cannot be told from this folder: no policy of it ran"
            " with two refresh intervals."
        )
    _, rows, policy, intervals = best
    fresh, old = (rows[rows["refresh_s"] == interval] for interval in (intervals[0], intervals[-1]))
    change = paired_change(fresh, old, "ttft_ms")
    if abs(change.low) <= MARGIN_PERCENT and abs(change.high) <= MARGIN_PERCENT:
        so = f"within {MARGIN_PERCENT:g} % either way, so staleness hardly matters here"
    elif change.low > 0:
        so = "so staleness is not free"
    else:
        so = f"which is too wide to call it none (our margin is {MARGIN_PERCENT:g} %)"
    return (
        f"When its view is renewed every {interval_name(intervals[-1])} instead of every {interval_name(intervals[0])},"
        f" {style_of(policy).label}'s mean time to first token in {WORLDS[str(rows['world'].iloc[0])]} changes by"
        f" {_words(change)}, {so}."
    )


def _evidence(sweeps: Sequence[Sweep], comparison: Comparison | None) -> str:
    """What stands behind it: verdicts of the emulated runs and the error of the fluid model on them."""
    runs = [run for sweep in sweeps for run in sweep.runs]
    emulated = [run for run in runs if run.spec.world == "emulated"]
    if not emulated:
        return (
            f"All {len(runs)} runs are of the fluid model, which does what its equations say: nothing of this was seen"
            " on real packets."
        )
    valid = sum(run.verdict == "valid" for run in emulated)
    share = f"{valid} of {len(emulated)} runs on real packets are"
    if valid == len(emulated):
        share = f"Every run on real packets ({valid}) is"
    text = f"{share} valid by every probe"
    if comparison is None:
        return text + "; none of them could be replayed in the fluid model."
    kv = comparison.report["replay"]["kv_transfer"]
    missed = kv["median_abs_error"]
    text += f"; given their decisions, the fluid model misses half of the transfers by more than {missed:.0%}"
    taus = [ranking["kendall_tau"] for ranking in comparison.report["free"]["rankings"]]
    if taus:
        text += f", and ranks the policies with Kendall's tau of {sum(taus) / len(taus):.2f} (1: alike)"
    return text + "."


def _words(change: Change) -> str:
    return f"{change.percent:+.1f} % [{change.low:+.1f}, {change.high:+.1f}]"
