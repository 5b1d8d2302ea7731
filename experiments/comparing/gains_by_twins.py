"""Every gain of an emulated sweep, told by what packets change of the fluid model's answer (see `fluid_twins`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import Interval, counted, paired_change, refresh_numbers
from experiments.comparing.fluid_twins import WithTwin, change_by_twin
from experiments.running import RUNS, Condition, RunSpec, read_description, read_manifest

QUANTITIES: Mapping[str, str] = {"ttft_ms": "mean TTFT", "kv_transfer_ms": "mean KV transfer"}
"""What a gain is of, by its column."""

FIRST_SEED = 1000
"""Of the long runs: seeds that no sweep of ours uses."""


def gains_by_twins(
    requests: pd.DataFrame, twins: pd.DataFrame, fluid: pd.DataFrame, axes: Sequence[str], references: Sequence[str]
) -> pd.DataFrame:
    """A row a workload, place on the `axes`, reference, policy, refresh interval and quantity of `QUANTITIES`.

    The change of the mean against each of the `references` that was run there, percent, with 95 % intervals:
    `emulated_` over the requests of the emulated runs, `fluid_` over those of the long runs, `told_` the latter
    corrected by packets. `requests`, `twins` and `fluid` are frames of `experiments.read_sweep`; what `fluid` lacks has
    no row.
    """
    keys = ["workload", *axes]
    packets, same, long = (counted(frame).assign(refresh_s=_ages(frame)) for frame in (requests, twins, fluid))
    places = {at: dict(iter(frame.groupby(keys, dropna=False))) for at, frame in (("same", same), ("long", long))}
    rows: list[dict[str, Any]] = []
    for at, here in packets.groupby(keys, dropna=False, sort=False):
        if at in places["same"] and at in places["long"]:
            found = _at(here, places["same"][at], places["long"][at], references)
            rows += [{**dict(zip(keys, at, strict=True)), **row} for row in found]
    return pd.DataFrame(rows)


def with_told(results: pd.DataFrame, found: pd.DataFrame, axes: Sequence[str], reference: str) -> pd.DataFrame:
    """The tidy frame of a question with the told changes of mean TTFT against its first reference in place of its own.

    All other changes are NaN. `results`: of `experiments.analysis.tidy`; `found`: of `gains_by_twins`.
    """
    keys = ["workload", *axes, "policy", "refresh_s"]
    ends = {f"told_{end}": f"ttft_change_{end}" for end in ("percent", "low", "high")}
    of_ttft = (found["quantity"] == QUANTITIES["ttft_ms"]) & (found["reference"] == reference)
    told = found.loc[of_ttft, [*keys, *ends]].rename(columns=ends)
    others = {str(name): math.nan for name in results if "_change_" in str(name)}
    return results.assign(**others).drop(columns=[*ends.values()]).merge(told, on=keys, how="left")


def long_runs(place: Path, requests: pd.DataFrame, *, count: int, seeds: int) -> list[Condition]:
    """The fluid model's long runs for the emulated ones of a sweep: the same set-up, `count` requests, so many seeds.

    `requests`: the frame of `experiments.read_sweep` of the folder `place`.
    """
    labels = read_description(place)["runs"]
    found: dict[str, Condition] = {}
    for name in dict.fromkeys(requests["run"]):
        spec = RunSpec.model_validate(read_manifest(place / RUNS / name)["spec"])
        long = spec.workload.model_copy(update={"requests": count})
        for seed in range(seeds):
            other = spec.model_copy(update={"world": "analytic", "workload": long, "seed": FIRST_SEED + seed})
            condition = f"{name.replace('emulated', 'analytic', 1).removesuffix(f'-seed{spec.seed}')}-seed{other.seed}"
            found[condition] = Condition(condition, other, {**labels[name], "world": "analytic", "seed": other.seed})
    return list(found.values())


def _at(
    packets: pd.DataFrame, same: pd.DataFrame, long: pd.DataFrame, references: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for reference in references:
        bases = [frame[frame["policy"] == reference] for frame in (packets, same, long)]
        if any(base.empty for base in bases):
            continue
        others = packets[packets["policy"] != reference]
        for (policy, refresh_s), group in others.groupby(["policy", "refresh_s"], dropna=False, sort=False):
            twin, far = (_of(frame, str(policy), refresh_s) for frame in (same, long))
            for column, quantity in QUANTITIES.items():
                fluid = Interval.of_change(paired_change(bases[2], far, column))
                told = change_by_twin(WithTwin(group, twin), WithTwin(*bases[:2]), column, fluid)
                if told is None:
                    continue
                emulated = Interval.of_change(paired_change(bases[0], group, column))
                yield {
                    **{"reference": reference, "quantity": quantity, "policy": policy, "refresh_s": refresh_s},
                    **_columns({"emulated": emulated, "fluid": fluid, "told": told}),
                    **{"seeds": group["seed"].nunique(), "requests": len(group)},
                }


def _columns(sides: Mapping[str, Interval]) -> dict[str, float]:
    return {
        f"{side}_{end}": value
        for side, one in sides.items()
        for end, value in (("percent", one.value), ("low", one.low), ("high", one.high))
    }


def _of(frame: pd.DataFrame, policy: str, refresh_s: Any) -> pd.DataFrame:
    ages = frame["refresh_s"]
    found: pd.DataFrame = frame[
        (frame["policy"] == policy) & (ages.isna() if pd.isna(refresh_s) else ages == refresh_s)
    ]
    return found


def _ages(frame: pd.DataFrame) -> pd.Series[float]:
    return refresh_numbers(frame["refresh_s"])
