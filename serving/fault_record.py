"""What a run's faults did: what is broken now, what both worlds do alike about it, and the rows of `faults.parquet`.

A world carries out the difference of two states on its network and its processes; telemetry on its way to the
scheduler is changed here, and requests are told to the lifecycle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scenario import (
    NETWORK_FAULTS,
    TELEMETRY_FAULTS,
    Fault,
    FaultEdge,
    FaultState,
    Role,
    instance_of,
    links_of,
    state_of,
)
from serving.lifecycle import Lifecycle
from serving.movers import Hit
from serving.outcome import Outcome, RequestRecord
from topologies import Fabric


class FaultRecord:
    """The faults of one run as they come and go."""

    def __init__(self, fabric: Fabric, life: Lifecycle) -> None:
        self._fabric = fabric
        self._life = life
        self._active: dict[int, Fault] = {}
        self._began: dict[int, tuple[Fault, float]] = {}
        self._ended_s: dict[int, float] = {}
        self._hit: dict[int, set[int]] = {}
        self._lost: dict[int, Hit] = {}
        self.state = FaultState()

    def step(self, edge: FaultEdge, now_s: float) -> tuple[FaultState, FaultState]:
        """A fault begins or ends now: what was broken until now, and what is from now on."""
        number, before = edge.fault.number, self.state
        if edge.begins:
            self._active[number] = edge.fault
            self._began[number] = edge.fault, now_s
        else:
            self._active.pop(number, None)
            self._ended_s[number] = now_s
        self.state = state_of(self._active.values(), self._fabric)
        oracle = self._life.dispatcher.oracle
        oracle.frozen, oracle.corrupted = self.state.frozen, self.state.corrupted
        oracle.extra_delay_s = self.state.extra_delay_s
        return before, self.state

    def worker_lost(self, fault: Fault, role: Role, instance: int, now_s: float) -> None:
        """The process of an instance is gone by this fault: its requests fail or are tried once more."""
        name = self._fabric.instances[instance].name
        self._lost[fault.number] = self._life.lost(role, instance, f"the {role} worker on {name} was killed", now_s)

    def note_use(self, home_links: Mapping[int, set[int]]) -> None:
        """The links that transfers under way would use on a whole fabric: those of a present fault hit the request."""
        for fault in self._active.values():
            if links := links_of(fault, self._fabric):
                hit = {request_id for request_id, used in home_links.items() if links & used}
                self._hit.setdefault(fault.number, set()).update(hit)

    def rows(self, outcome: Outcome) -> list[dict[str, Any]]:
        """A row a fault that began, in order; `until_s` is NaN where it lasted to the end of the run."""
        rows = []
        for number, (fault, began_s) in sorted(self._began.items()):
            failed, retried = self._lost.get(number, Hit([], []))
            until_s = self._ended_s.get(number, math.nan)
            hit = {*failed, *retried} | self._hit.get(number, set())
            hit |= set(_met(fault, began_s, _or_never(until_s), outcome))
            rows.append(
                {
                    **{"number": number, "kind": fault.kind, "target": fault.target},
                    **{"at_s": began_s, "until_s": until_s, "requests_hit": len(hit)},
                    **{"requests_failed": len(failed), "requests_retried": len(retried)},
                    **{"request_ids": sorted(hit), "failed_ids": failed, "retried_ids": retried},
                }
            )
        return rows


def note_paths(plan: Iterable[Fault], fabric: Fabric, outcome: Outcome) -> None:
    """Complete the rows of faults of the network where the paths of connections are known only after the run.

    A request is hit when a connection of its transfer is at home on a link of the fault, and was in use meanwhile.
    """
    faults = {fault.number: fault for fault in plan}
    for row in outcome.faults:
        fault = faults[row["number"]]
        if fault.kind in NETWORK_FAULTS:
            names = {fabric.links[link].name for link in links_of(fault, fabric)}
            hit = _crossing(outcome.paths, names, row["at_s"], _or_never(row["until_s"]))
            row["request_ids"] = sorted({*row["request_ids"], *hit})
            row["requests_hit"] = len(row["request_ids"])


def _crossing(paths: Sequence[Mapping[str, Any]], names: set[str], from_s: float, to_s: float) -> set[int]:
    return {
        row["number"]
        for row in paths
        if row["owner"] == "transfer"
        and names & set(row["links"])
        and row["started_s"] < to_s
        and not row["ended_s"] <= from_s
    }


def _met(fault: Fault, from_s: float, to_s: float, outcome: Outcome) -> Iterable[int]:
    """The requests that a fault of telemetry decided about, that were at a hung instance, or decoded under a surge.

    All that were under way are met by a pause of the machine.
    """
    if fault.kind in TELEMETRY_FAULTS:
        return [row["request_id"] for row in outcome.decisions if from_s <= row["decided_s"] < to_s]
    if fault.kind == "worker_hung":
        instance = instance_of(fault)
        return [one.request_id for one in outcome.requests if _was_at(one, instance, from_s, to_s)]
    if fault.kind == "machine_paused":
        return [one.request_id for one in outcome.requests if _was_there(one, from_s, to_s)]
    if fault.kind == "background_surge":
        here = [one for one in outcome.requests if one.decode_id == instance_of(fault)]
        return [one.request_id for one in here if _was_at(one, one.decode_id, from_s, to_s)]
    return []


def _was_at(record: RequestRecord, instance: int, from_s: float, to_s: float) -> bool:
    """Whether a request that used an instance was under way between two instants."""
    return instance in (record.prefill_id, record.decode_id) and _was_there(record, from_s, to_s)


def _was_there(record: RequestRecord, from_s: float, to_s: float) -> bool:
    """Whether a request was under way between two instants."""
    ended_s = record.timestamp_s + record.e2el_ms / 1e3
    return record.timestamp_s < to_s and not ended_s <= from_s


def _or_never(until_s: float) -> float:
    return math.inf if math.isnan(until_s) else until_s
