"""A run as a timeline in the Trace Event Format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

A process an instance, a thread a request. A request is a chain of slices: `queue`, `prefill`, `dispatch` (the decision,
and its way to the sender) and `KV transfer` at its prefill instance, `admission`, `first step` and `decode` at its
decode instance, with an arrow from one to the other. Times are microseconds of the real system from t = 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from experiments.exporting.finished_requests import FinishedRequests

AT_PREFILL = ("queue", "prefill", "dispatch", "KV transfer")
AT_DECODE = ("admission", "first step", "decode")
STAGES = (*AT_PREFILL, *AT_DECODE)
FACTS = (
    *("input_length", "output_length", "cached_tokens", "kv_bytes", "tier", "predicted_kv_transfer_ms"),
    *("oracle_age_ms", "ttft_ms", "tpot_ms", "e2el_ms", "policy", "status", "error"),
)
"""Columns of requests.parquet that a slice shows."""

Event = dict[str, Any]
Row = Mapping[Hashable, Any]


def chrome_trace(run: FinishedRequests) -> dict[str, Any]:
    """The trace. The slices of a completed request join up, from its arrival to its first token and its last one.

    Of one that did not complete there is what is known of it.
    """
    edges_us = _edges_us(run)
    rows = run.requests[[*FACTS, "request_id", "prefill_id", "decode_id"]].to_dict("records")
    events: list[Event] = []
    named: set[tuple[int, int]] = set()
    prefilling: set[int] = set()
    decoding: set[int] = set()
    for row, edges in zip(rows, edges_us, strict=True):
        facts = {name: row[name] for name in FACTS if row[name] == row[name] and row[name] != ""}
        for stage, start_us, end_us in zip(STAGES, edges[:-1], edges[1:], strict=True):
            at_prefill = stage in AT_PREFILL
            instance = row["prefill_id"] if at_prefill else row["decode_id"]
            if instance < 0 or not end_us > start_us:
                continue  # never came, or took no time
            (prefilling if at_prefill else decoding).add(instance)
            thread = {"pid": _process(instance), "tid": row["request_id"]}
            if (instance, row["request_id"]) not in named:
                named.add((instance, row["request_id"]))
                events.append({"ph": "M", "name": "thread_name", **thread, "args": {"name": _name(row)}})
            slice_us = {"ts": float(start_us), "dur": float(end_us - start_us)}
            events.append({"ph": "X", "name": stage, "cat": "request", **thread, **slice_us, "args": facts})
        events += _arrow(row, edges)
    processes = [
        {"ph": "M", "name": "process_name", "pid": _process(one), "tid": 0, "args": {"name": f"{role} h{one}"}}
        for role, instances in (("prefill", prefilling), ("decode", decoding))
        for one in sorted(instances)
    ]
    made_by = {"world": run.spec.world, "policy": run.spec.policy, "seed": run.spec.seed}
    return {"displayTimeUnit": "ms", "otherData": made_by, "traceEvents": [*processes, *events]}


def _edges_us(run: FinishedRequests) -> np.ndarray[Any, Any]:
    """The eight instants between which a request's seven stages lie, a row a request, rising; NaN: never came.

    In the emulated world the sender starts a little after the decision; `transfer_started_s` says when. What the clocks
    of several processes leave over is in the stage before the first token, so that all stages make up the TTFT.
    """
    arrived_ms = run.times_ms("timestamp_s") * 1e3
    prefilled_ms = run.times_ms("queue_ms") + run.times_ms("prefill_ms")
    sent_ms = run.times_ms("transfer_started_s") * 1e3 - arrived_ms
    sent_ms = np.where(np.isnan(sent_ms) & ~np.isnan(run.times_ms("kv_transfer_ms")), prefilled_ms, sent_ms)
    first_ms = run.times_ms("ttft_ms")
    received_ms = sent_ms + run.times_ms("kv_transfer_ms")
    edges_ms = np.stack(
        [
            np.zeros(len(arrived_ms)),
            run.times_ms("queue_ms"),
            prefilled_ms,
            sent_ms,
            received_ms,
            received_ms + run.times_ms("admission_ms"),
            first_ms,
            run.times_ms("e2el_ms"),
        ],
        axis=1,
    )
    known = ~np.isnan(edges_ms)
    edges_ms = np.maximum.accumulate(np.where(known, edges_ms, -np.inf), axis=1)
    edges_ms[:, :-1] = np.fmin(edges_ms[:, :-1], first_ms[:, None])
    edges_ms[~known] = np.nan
    edges_us: np.ndarray[Any, Any] = (arrived_ms[:, None] + edges_ms) * 1e3
    return edges_us


def _arrow(row: Row, edges: np.ndarray[Any, Any]) -> list[Event]:
    """From the transfer to the admission that follows it: a flow event binds to the slice that it lies in."""
    sent_us, received_us, _, first_token_us = edges[3:7]
    if row["decode_id"] < 0 or np.isnan(first_token_us):
        return []
    flow = {"name": "KV", "cat": "request", "id": row["request_id"], "tid": row["request_id"]}
    return [
        {"ph": "s", **flow, "pid": _process(row["prefill_id"]), "ts": float(sent_us)},
        {"ph": "f", "bp": "e", **flow, "pid": _process(row["decode_id"]), "ts": float(received_us)},
    ]


def _process(instance: int) -> int:
    """The number of an instance's process: viewers take process 0 for the idle one."""
    return instance + 1


def _name(row: Row) -> str:
    return f"request {row['request_id']}"
