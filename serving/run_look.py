"""A run at one moment, for somebody who watches it: where its requests are, what is in flight, what the links carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from serving.lifecycle import STAGES, Lifecycle


@dataclass(frozen=True, slots=True)
class TransferUnderWay:
    """A KV transfer under way, `for_s` seconds after its decision."""

    request_id: int
    prefill_id: int
    decode_id: int
    tier: int
    kv_bytes: int
    for_s: float


@dataclass(frozen=True, slots=True)
class RunLook:
    """A run at `at_s`, seconds of the real system from t = 0.

    `stages`: how many requests that have arrived are in each of `STAGES`. `closed`: how many are over, `failed` of them
    without an answer. `transfers`: the KV transfers under way, the oldest first. `snapshot_age_s`: age of the
    scheduler's telemetry snapshot, None without one. `ttft_ms`: by request, of those that have completed since the look
    before. `utilisation`: of every link, by name, 0 to 1.
    """

    at_s: float
    stages: Mapping[str, int]
    closed: int
    failed: int
    transfers: Sequence[TransferUnderWay]
    snapshot_age_s: float | None
    ttft_ms: Mapping[int, float]
    utilisation: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain data, as it crosses from one process to another."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> RunLook:
        """A look from what `as_json` has made of it; JSON's names are text, so requests are numbered anew."""
        transfers = tuple(TransferUnderWay(**one) for one in fields["transfers"])
        ttft_ms = {int(number): ms for number, ms in fields["ttft_ms"].items()}
        return cls(**{**fields, "transfers": transfers, "ttft_ms": ttft_ms})


class Watch(NamedTuple):
    """Who watches a run: `on_look` gets a look every `every_s` seconds of the real system."""

    every_s: float
    on_look: Callable[[RunLook], None]


class LifeWatch:
    """Looks at the requests of one run. Each look takes time in proportion to the requests that are under way."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life
        self._seen = 0
        self._under_way: dict[int, None] = {}
        self._failed = 0

    def look(self, now_s: float, utilisation: Mapping[str, float]) -> RunLook:
        """The run at `now_s`, with what its world knows of the links."""
        life = self._life
        self._under_way |= dict.fromkeys(life.turns.arrived[self._seen :])
        self._seen = len(life.turns.arrived)
        stages = dict.fromkeys(STAGES, 0)
        ttft_ms, transfers = {}, []
        for request_id in list(self._under_way):
            record, stage = life.records[request_id], life.stage_of(request_id)
            if stage is None:
                del self._under_way[request_id]
                if record.status == "completed":
                    ttft_ms[request_id] = record.ttft_ms
                else:
                    self._failed += 1
                continue
            stages[stage] += 1
            if stage == "transfer":
                for_s = max(now_s - life.decisions[request_id]["decided_s"], 0.0)
                where = (record.prefill_id, record.decode_id, record.tier, record.kv_bytes)
                transfers.append(TransferUnderWay(request_id, *where, for_s))
        transfers.sort(key=lambda one: -one.for_s)
        held = life.dispatcher.oracle.held
        age_s = None if held is None else held.age_s(now_s)
        return RunLook(now_s, stages, life.closed, self._failed, tuple(transfers), age_s, ttft_ms, utilisation)
