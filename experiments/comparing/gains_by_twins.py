"""Every gain of an emulated sweep, told by what packets change of the fluid model's answer (see `fluid_twins`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.analysis import Interval, counted, paired_change, refresh_numbers
from experiments.comparing.fluid_twins import WithTwin, change_by_twin
from experiments.running import RUNS, StoreError, read_manifest

QUANTITIES: Mapping[str, str] = {"ttft_ms": "mean TTFT", "kv_transfer_ms": "mean KV transfer"}
"""What a gain is of, by its column."""

MAY_DIFFER = ("world", "seed", "emulation", "workload.requests")
"""Fields of a specification in which the fluid model's long runs may differ from the emulated ones."""

SIDES = ("emulated", "fluid", "told")


def gains_by_twins(
    requests: pd.DataFrame, twins: pd.DataFrame, fluid: pd.DataFrame, axes: Sequence[str], references: Sequence[str]
) -> pd.DataFrame:
    """A row a workload, place on the `axes`, policy, refresh interval and quantity of `QUANTITIES`.

    The change of the mean against the first of the `references` that was run there, percent, with 95 % intervals:
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


def check_same_set_up(emulated: Path, requests: pd.DataFrame, analytic: Path, fluid: pd.DataFrame) -> None:
    """StoreError where runs of one policy and place differ in more than `MAY_DIFFER`, as two sets of the same question
    do that were made with different settings."""
    labels = [name for name in ("policy", "refresh_s") if name in requests]
    ours, theirs = _specs(emulated, requests, labels), _specs(analytic, fluid, labels)
    for key, spec in ours.items():
        beside = [other for name, other in theirs.items() if name[: len(labels)] == key[: len(labels)]]
        unlike = [_unlike(spec, other) for other in beside]
        if unlike and all(unlike):
            field = min(unlike, key=len)[0]
            raise StoreError(
                f"{analytic}: has no run of {key[0]} in the set-up of {emulated}: {field} is"
                f" {_shown(beside[unlike.index(min(unlike, key=len))].get(field))} there and {_shown(spec.get(field))}"
                " here; make it with the same question, profile and settings"
            )


def _at(
    packets: pd.DataFrame, same: pd.DataFrame, long: pd.DataFrame, references: Sequence[str]
) -> Iterator[dict[str, Any]]:
    policies = list(dict.fromkeys(packets["policy"]))
    reference = next((name for name in references if name in policies), policies[0])
    bases = [frame[frame["policy"] == reference] for frame in (packets, same, long)]
    others = packets[packets["policy"] != reference]
    for (policy, refresh_s), group in others.groupby(["policy", "refresh_s"], dropna=False, sort=False):
        twin, far = (_of(frame, str(policy), refresh_s) for frame in (same, long))
        if far.empty or any(base.empty for base in bases):
            continue
        for column, quantity in QUANTITIES.items():
            fluid = Interval.of_change(paired_change(bases[2], far, column))
            told = change_by_twin(WithTwin(group, twin), WithTwin(*bases[:2]), column, fluid)
            emulated = Interval.of_change(paired_change(bases[0], group, column))
            if told is None:
                continue
            ends = {
                f"{side}_{end}": value
                for side, one in zip(SIDES, (emulated, fluid, told), strict=True)
                for end, value in zip(("percent", "low", "high"), (one.value, one.low, one.high), strict=True)
            }
            counts = {"seeds": group["seed"].nunique(), "requests": len(group)}
            yield {
                **{"policy": policy, "refresh_s": refresh_s, "reference": reference, "quantity": quantity},
                **ends,
                **counts,
            }


def _of(frame: pd.DataFrame, policy: str, refresh_s: Any) -> pd.DataFrame:
    ages = frame["refresh_s"]
    found: pd.DataFrame = frame[
        (frame["policy"] == policy) & (ages.isna() if pd.isna(refresh_s) else ages == refresh_s)
    ]
    return found


def _ages(frame: pd.DataFrame) -> pd.Series[float]:
    return refresh_numbers(frame["refresh_s"])


def _specs(place: Path, requests: pd.DataFrame, labels: Sequence[str]) -> dict[tuple[str, ...], dict[str, Any]]:
    """The specification of each run, flat, by its labels and name."""
    found = {}
    for name, rows in requests.groupby("run", sort=False):
        first = rows.iloc[0]
        key = (*(str(first[label]) for label in labels), str(name))
        found[key] = dict(_flat(read_manifest(place / RUNS / str(name))["spec"]))
    return found


def _flat(section: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _unlike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The fields in which two specifications may not differ and do."""
    return [
        name
        for name in dict.fromkeys((*ours, *theirs))
        if not name.startswith(MAY_DIFFER) and ours.get(name) != theirs.get(name)
    ]


def _shown(value: Any) -> str:
    return json.dumps(value)
