"""The decisions of a run, taken once more from the same state: by its world again, or by its dispatcher from records.

An analytic run depends on its specification alone, so the world makes it again, and all is as it was. Of an emulated
run the dispatcher is given the recorded times of its requests, of which the scheduler learned a little later than they
happened, and the recorded telemetry. An older run has no record of the snapshots themselves: the log of the links need
not hold the one that was used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from experiments.explaining.recorded_decisions import DecidedRun
from experiments.explaining.watched_policy import SeenDecision, WatchedPolicy
from experiments.running import SNAPSHOTS, read_table
from scenario import load_workload
from scheduler import Dispatcher, NetworkSample, policy_of
from simulator import AnalyticWorld, warm_caches
from workloads import BLOCK_TOKENS

Floats = NDArray[np.float64]

AT_ONCE_S = 1e-9
"""The refresh interval of a dispatcher that takes every recorded snapshot when it is offered."""


@dataclass(frozen=True)
class Rebuilt:
    """`seen`: the decisions asked for, by request. `other`: how many of all come out differently from the record.
    `telemetry_off_s`: by request, how far in time the telemetry given is from the snapshot that was used; 0 when it
    is that snapshot."""

    seen: dict[int, SeenDecision]
    other: int
    telemetry_off_s: dict[int, float]


def rebuild(run: DecidedRun, wanted: Container[int]) -> Rebuilt:
    """Take the decisions of a run again and note those `wanted`. PolicyError or WorkloadError when that cannot be."""
    scenario = run.spec.scenario
    watched = WatchedPolicy(policy_of(scenario), run.recorded, wanted)
    if run.emulated:
        return _by_dispatcher(run, watched)
    with AnalyticWorld(scenario, run.spec.simulation, policy=watched) as world:
        world.run(scenario)
    return Rebuilt(watched.seen, watched.other, {})


def _by_dispatcher(run: DecidedRun, policy: WatchedPolicy) -> Rebuilt:
    """Give a dispatcher everything that the record says it was told, in order of time."""
    scenario = run.spec.scenario
    snapshots = _read_snapshots(run)
    offers, off_s = (snapshots, {}) if snapshots is not None else _offers(run)
    workload = load_workload(scenario)
    held = warm_caches(scenario, run.fabric, run.roles, workload.preceding).prefixes
    if snapshots is None:
        taken = scenario.oracle.model_copy(update={"refresh_s": AT_ONCE_S, "loss": 0.0, "noise": 0.0})
        scenario = scenario.model_copy(update={"oracle": taken})
    came_s = dict(zip(run.requests["request_id"], run.requests["timestamp_s"], strict=True))  # turns: not as forecast
    requests = {one.request_id: replace(one, timestamp_s=float(came_s[one.request_id])) for one in workload.requests}
    block_tokens = workload.requests[0].block_tokens if requests else BLOCK_TOKENS
    dispatcher = Dispatcher(scenario, run.fabric, run.roles, policy, block_tokens=block_tokens, prefixes=held)
    told: list[tuple[float, int, int, Callable[[], object]]] = []
    columns = [run.decisions[name].tolist() for name in ("request_id", "decided_s", "prefill_id", "status")]
    instants = [column.tolist() for column in _instants(run)]
    for number, decided_s, prefill_id, status, received_s, admitted_s, finished_s in zip(
        *columns, *instants, strict=True
    ):
        select = partial(dispatcher.select, requests[number], prefill_id, decided_s)
        told.append((decided_s, 4, number, select))
        told.append((received_s, 0, number, partial(dispatcher.transferred, number, received_s)))
        if status == "completed":
            told.append((finished_s, 1, number, partial(dispatcher.finished, number)))
            told.append((admitted_s, 2, number, partial(dispatcher.admitted, number)))
        else:
            told[-1] = (received_s, 2, number, partial(dispatcher.failed, number))
    told += [(at_s, 3, k, partial(dispatcher.offer_sample, sample, at_s)) for k, (at_s, sample) in enumerate(offers)]
    for *_, tell in sorted(told, key=lambda one: one[:3]):
        tell()
    return Rebuilt(policy.seen, policy.other, off_s)


def _instants(run: DecidedRun) -> tuple[Floats, Floats, Floats]:
    """When each of `run.decisions` was received, admitted and finished, seconds.

    In this order whatever the record, and nobody joins a full batch: records of one instant differ in their last digit.
    """
    rows = run.decisions
    since_s = {name: rows[f"{name}_ms"].to_numpy(dtype=float) / 1e3 for name in ("kv_transfer", "admission", "e2el")}
    after_s = np.nextafter(rows["decided_s"].to_numpy(dtype=float), math.inf)
    received_s = np.maximum(run.started_s() + np.nan_to_num(since_s["kv_transfer"]), after_s)
    admitted_s = received_s + np.nan_to_num(since_s["admission"])
    finished_s = np.maximum(rows["timestamp_s"].to_numpy(dtype=float) + np.nan_to_num(since_s["e2el"]), admitted_s)
    slots = run.spec.serving.batch_slots
    completed = rows["status"].to_numpy() == "completed"
    for decode_id in run.roles.decode:
        here = np.flatnonzero(completed & (rows["decode_id"].to_numpy() == decode_id))
        later = here[admitted_s[here].argsort(kind="stable")][slots:]
        admitted_s[later] = np.maximum(admitted_s[later], np.sort(finished_s[here])[: len(later)])
    return received_s, admitted_s, np.maximum(finished_s, np.nextafter(admitted_s, math.inf))


def _read_snapshots(run: DecidedRun) -> list[tuple[float, NetworkSample | None]] | None:
    """Every telemetry document that the scheduler read, when it did; None for a refused one. None without a record."""
    if not (run.folder / f"{SNAPSHOTS}.parquet").is_file():
        return None
    names = [link.name for link in run.fabric.links]
    found: list[tuple[float, NetworkSample | None]] = []
    for _, rows in read_table(run.folder, SNAPSHOTS).groupby("read_s"):
        utilisation = rows.set_index("link")["utilisation"].reindex(names).to_numpy(dtype=float)
        read_s, sampled_s = (float(rows[name].iloc[0]) for name in ("read_s", "sampled_s"))
        found.append((read_s, None if math.isnan(sampled_s) else NetworkSample(sampled_s, utilisation)))
    return found


def _offers(run: DecidedRun) -> tuple[list[tuple[float, NetworkSample | None]], dict[int, float]]:
    """The snapshots to offer, in order, each when it was read first; and by request how far off in time it is.

    Each is the sample of the links that is nearest to the recorded time of the snapshot, with that time.
    """
    scenario = run.spec.scenario
    links = read_table(run.folder, "links", ["time_s", "link", "utilisation"])
    by_time = links.pivot_table(index="time_s", columns="link", values="utilisation")
    names = [link.name for link in run.fabric.links]
    sampled_s = by_time.index.to_numpy(dtype=float)
    offers: list[tuple[float, NetworkSample | None]] = []
    off_s: dict[int, float] = {}
    used_s = math.nan
    columns = [run.decisions[name].tolist() for name in ("request_id", "decided_s", "snapshot_s")]
    for number, decided_s, snapshot_s in zip(*columns, strict=True):
        if math.isnan(snapshot_s) or not len(sampled_s):
            if not math.isnan(used_s):
                offers.append((decided_s, None))
            used_s = math.nan
            continue
        nearest = int(np.abs(sampled_s - snapshot_s).argmin())
        off_s[number] = float(abs(sampled_s[nearest] - snapshot_s))
        if snapshot_s == used_s:
            continue
        used_s = snapshot_s
        utilisation = by_time.iloc[nearest].reindex(names).fillna(0.0).to_numpy(dtype=float)
        read_s = _read_s(scenario.first_snapshot_s, scenario.oracle.refresh_s, scenario.oracle.delay_s, decided_s)
        offers.append((min(max(read_s, used_s), decided_s), NetworkSample(used_s, np.clip(utilisation, 0.0, 1.0))))
    return offers, off_s


def _read_s(first_s: float, refresh_s: float, delay_s: float, decided_s: float) -> float:
    """When the snapshot in use at a decision was due to be read."""
    if math.isinf(refresh_s):
        return first_s
    return first_s + max(math.floor((decided_s - delay_s - first_s) / refresh_s), 0) * refresh_s
