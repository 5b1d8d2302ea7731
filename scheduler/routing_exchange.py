"""The JSON exchange of one decision with a router under test, `netkv.route/v1`: what it is told, what it may answer.

A router is told what a router may know; the length of the answer is not part of it (`scheduler.loads`). Every field is
explained in docs/reference/netkv-route-v1.md.
"""

from __future__ import annotations

import json
import reprlib
from typing import Any, NamedTuple, NoReturn

from numpy.typing import NDArray

from scheduler.candidates import Candidates
from scheduler.errors import PolicyError, RejectedError
from scheduler.view import View
from workloads import Request

SCHEMA = "netkv.route/v1"

ANSWER = '{"decode_id": NUMBER} or {"reject": "why"}'
LONGEST_ANSWER_BYTES = 1 << 16
LONGEST_REASON = 500
"""Characters of a reason that are kept."""

OF_CANDIDATES = (
    *("decode_id", "tier", "feasible", "cached_tokens", "waiting", "running", "outstanding", "reserved_tokens"),
    *("kv_use", "prompt_tokens", "sent_since", "admission_wait_s", "first_step_s"),
)
"""Fields of `Candidates` that every candidate of the exchange has."""


class Choice(NamedTuple):
    """A router's answer. `reason`: why, in its own words; empty without one."""

    decode_id: int
    reason: str


def question(request: Request, candidates: Candidates, view: View, *, snapshot: bool) -> dict[str, Any]:
    """The document that asks for one decision; with `snapshot` also what telemetry says."""
    columns: dict[str, NDArray[Any]] = {name: getattr(candidates, name) for name in OF_CANDIDATES}
    columns |= {
        "kv_bytes": view.kv_bytes(request, candidates),
        "latency_s": view.latency_s(candidates),
        "nominal_Bps": view.nominal_Bps(candidates),
    }
    if snapshot:
        columns["available_Bps"] = view.available_Bps(candidates)
    names, values = tuple(columns), zip(*(column.tolist() for column in columns.values()), strict=True)
    asked: dict[str, Any] = {
        "schema": SCHEMA,
        "now_s": view.now_s,
        "request": {
            "request_id": request.request_id,
            "arrival_s": request.timestamp_s,
            "prompt_tokens": request.input_length,
            "prompt_kv_bytes": view.prompt_bytes(request),
            "block_tokens": request.block_tokens,
            "block_ids": request.block_ids,
        },
        "slo": {"ttft_s": view.slo.ttft_s, "tpot_s": view.slo.tpot_s},
        "batch_slots": view.batch_slots,
        "prefill_id": candidates.prefill_id,
        "candidates": [dict(zip(names, row, strict=True)) for row in values],
    }
    if snapshot:
        asked["snapshot"] = _telemetry(view)
    return asked


def _telemetry(view: View) -> dict[str, Any] | None:
    """The links as in `netkv.cost/v1`; None without a snapshot."""
    if view.sample is None:
        return None
    links = zip(view.link_names, (8 * view.capacity_Bps).tolist(), view.sample.utilisation.tolist(), strict=True)
    return {
        "age_s": view.age_s,
        "links": {name: {"capacity_bps": bps, "utilisation": used} for name, bps, used in links},
    }


def answer(body: bytes) -> Choice:
    """What a router's answer chooses. RejectedError when it turns the request away, PolicyError when it is unclear."""
    try:
        found = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise _unclear("not JSON", body) from problem
    if not isinstance(found, dict):
        raise _unclear("no JSON object", body)
    if isinstance(why := found.get("reject"), str):
        raise RejectedError(why[:LONGEST_REASON] or "the router turned it away")
    decode_id, reason = found.get("decode_id"), found.get("reason", "")
    if not isinstance(decode_id, int) or isinstance(decode_id, bool):
        raise _unclear("without a whole number as decode_id", body)
    if not isinstance(reason, str):
        raise _unclear("with a reason that is no text", body)
    return Choice(decode_id, reason[:LONGEST_REASON])


def shown(body: bytes) -> str:
    """The beginning of what came back, as it is shown in a complaint."""
    return reprlib.repr(body.decode("utf-8", "replace").strip()) if body.strip() else "an empty body"


def _unclear(what: str, body: bytes) -> PolicyError:
    return PolicyError(f"the answer is {what}: {shown(body)} ({ANSWER} is expected)")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
