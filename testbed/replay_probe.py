"""How far a run's KV transfers were from the fluid answer to its own decisions, paths and background."""

from __future__ import annotations

import math

from scenario import Scenario
from serving import Outcome
from simulator import (
    FluidTransport,
    RecordedPaths,
    RecordedTransfer,
    recorded_background,
    recorded_paths,
    replay_recorded,
)
from testbed.calibration import TCP_PAYLOAD_SHARE

LEAST_TRANSFERS = 30
"""With fewer transfers one of them could decide the sum."""


def transfer_time_error(scenario: Scenario, outcome: Outcome) -> float | None:
    """The time that all KV transfers together took beyond the fluid model's, as a part of the latter.

    The model is given what happened: starts, sizes with the headers of their frames, paths, background. None where
    that is not known (UDP background, no paths), and for fewer than `LEAST_TRANSFERS` transfers.
    """
    records = {record.request_id: record for record in outcome.requests}
    recorded, taken_s = [], 0.0
    for decision in outcome.decisions:
        record = records[decision["request_id"]]
        start_s, took_s = decision.get("transfer_started_s", math.nan), record.kv_transfer_ms / 1e3
        connections = len(decision.get("source_ports") or ())  # none where nothing is left once bytes are scaled
        if connections and math.isfinite(start_s + took_s):
            source, target = decision["prefill_id"], decision["decode_id"]
            size_B = record.kv_bytes / TCP_PAYLOAD_SHARE
            prefilled_s = record.timestamp_s + (record.queue_ms + record.prefill_ms) / 1e3
            early = (scenario.serving.overlap, prefilled_s)
            recorded.append(RecordedTransfer(record.request_id, start_s, source, target, size_B, connections, *early))
            taken_s += took_s
    if len(recorded) < LEAST_TRANSFERS or not outcome.paths or outcome.evidence.get("background_udp"):
        return None
    fabric, _ = scenario.build()
    transport = FluidTransport(fabric, RecordedPaths(recorded_paths(outcome.paths), scenario.seed))
    ends_s = replay_recorded(transport, recorded, recorded_background(outcome.paths))
    modelled_s = sum(ends_s[one.request_id] - max(one.start_s, 0.0) for one in recorded)
    return taken_s / modelled_s - 1
