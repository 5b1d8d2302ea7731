"""Outcomes made by hand, so that what is stored and summarised can be worked out on paper."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from experiments.running.run_spec import RunSpec, make_spec
from scenario import SloSpec
from serving import Outcome, RequestRecord

SLO = SloSpec(ttft_s=0.25, tpot_s=0.05)


def spec(**changes: Any) -> RunSpec:
    """The default specification of the analytic world with changes; `__` stands for the dot in a field's name."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return make_spec({"world": "analytic"}, dotted)


def record(number: int, ttft_ms: float = 100.0, tpot_ms: float = 10.0, **fields: Any) -> RequestRecord:
    """A completed request of 100 prompt tokens and 11 answer tokens, which arrived at its own number of seconds."""
    completed: dict[str, Any] = {
        "timestamp_s": float(number), "input_length": 100, "output_length": 11, "policy": "cla",
        "prefill_id": 0, "decode_id": 2, "tier": 1, "kv_bytes": 1000, "kv_transfer_ms": 20.0,
        "predicted_kv_transfer_ms": 15.0, "e2el_ms": ttft_ms + 10 * tpot_ms, "decision_us": 4.0,
        "oracle_age_ms": float("inf"), "queue_ms": 1.0, "prefill_ms": 2.0, "admission_ms": 3.0, "status": "completed",
    }  # fmt: skip
    return RequestRecord(number, ttft_ms=ttft_ms, tpot_ms=tpot_ms, **{**completed, **fields})


def lost(number: int, status: str, error: str, policy: str = "cla") -> RequestRecord:
    """A request that was never served."""
    return RequestRecord(number, float(number), 100, 11, policy, status=status, error=error)  # type: ignore[arg-type]


def frame(*records: RequestRecord, **columns: Any) -> pd.DataFrame:
    """Records as the rows of a table, with further columns."""
    return pd.DataFrame([asdict(made) for made in records]).assign(**columns)


def decided(made: RequestRecord) -> dict[str, Any]:
    """A row of decisions.parquet."""
    when = {"decided_s": made.timestamp_s, "oracle_age_ms": made.oracle_age_ms}
    return {"request_id": made.request_id, "decode_id": made.decode_id, **when}


def outcome(*records: RequestRecord, **fields: Any) -> Outcome:
    """A run of ten seconds."""
    made = {
        "requests": list(records),
        "decisions": [decided(made) for made in records],
        "links": [{"time_s": 0.0, "link": "h0>srv0", "utilisation": 0.5, "bytes": 10}],
        "duration_s": 10.0,
    }
    return Outcome(**{**made, **fields})
