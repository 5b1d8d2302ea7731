"""What became of a request, a decision and a link: the rows that both worlds hand over, in real-system units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from scheduler import Decision
from workloads import Request

Status = Literal["completed", "failed", "rejected"]

NAN = float("nan")

RETRIED = "retried_ids"
"""In a run's evidence: the numbers of the requests that were tried more than once."""

POLICY_ERROR = "policy_error"
"""Where a run's evidence says how the policy broke its contract and ended the run."""

UNREPEATABLE = "unrepeatable"
"""Where a run's evidence says why the same specification need not give the same bytes again."""

ENDED_EARLY = "the run ended before it was finished: its policy broke"
"""The error of the requests that were still open then."""


@dataclass(slots=True)
class RequestRecord:
    """One row of `requests.parquet`; a time that never came is NaN, an instance that was never chosen -1.

    queue_ms: arrival to the start of prefill. kv_transfer_ms: from the sender's start to the receiver's last byte, 0
    where nothing was to be moved. admission_ms: last byte in to its first step. ttft_ms: arrival to first token.
    tpot_ms: mean gap of the tokens after it, NaN where there is none. e2el_ms: arrival to last token.
    """

    request_id: int
    timestamp_s: float
    input_length: int
    output_length: int
    policy: str
    prefill_id: int = -1
    decode_id: int = -1
    tier: int = -1
    cached_tokens: int = 0
    kv_bytes: int = 0
    queue_ms: float = NAN
    prefill_ms: float = NAN
    kv_transfer_ms: float = NAN
    admission_ms: float = NAN
    ttft_ms: float = NAN
    tpot_ms: float = NAN
    e2el_ms: float = NAN
    oracle_age_ms: float = NAN
    predicted_kv_transfer_ms: float = NAN
    decision_us: float = NAN
    status: Status = "failed"
    error: str = ""

    @classmethod
    def of(cls, request: Request, policy: str) -> RequestRecord:
        """A request that has just arrived."""
        return cls(request.request_id, request.timestamp_s, request.input_length, request.output_length, policy)

    def decided(self, decision: Decision) -> None:
        """Copy what the scheduler chose and believed."""
        self.prefill_id = decision.prefill_id
        self.decode_id = decision.decode_id
        self.tier = decision.tier
        self.cached_tokens = decision.cached_tokens
        self.kv_bytes = decision.kv_bytes
        self.oracle_age_ms = decision.oracle_age_ms
        self.predicted_kv_transfer_ms = decision.predicted_kv_transfer_ms
        self.decision_us = decision.decision_us

    def undecided(self) -> None:
        """Forget the choice of a decode instance and what came of it: the request is to be placed anew."""
        self.decode_id = self.tier = -1
        self.cached_tokens = self.kv_bytes = 0
        self.kv_transfer_ms = self.admission_ms = self.ttft_ms = NAN
        self.oracle_age_ms = self.predicted_kv_transfer_ms = self.decision_us = NAN

    def emitted(self, first_token_s: float, last_token_s: float) -> None:
        """When its first and its last token came, seconds from the start of the run: the request is complete."""
        self.ttft_ms = (first_token_s - self.timestamp_s) * 1e3
        self.e2el_ms = (last_token_s - self.timestamp_s) * 1e3
        gaps = self.output_length - 1
        self.tpot_ms = (last_token_s - first_token_s) * 1e3 / gaps if gaps else NAN
        self.status = "completed"


@dataclass(slots=True)
class Outcome:
    """Everything one run of a scenario produced.

    `decisions`: one mapping a decision (the fields of `Decision` and whatever the world adds, such as source ports).
    `links`: one mapping a sample of a link: time_s, link, utilisation, bytes. `snapshots`: one mapping a link of every
    telemetry document that the scheduler read, from a world that cannot make it again: read_s, sampled_s, link,
    utilisation; NaN where it was refused. `background`: one mapping a background flow that has stopped; `paths`: one
    mapping a connection, with the links it crossed, where the world can tell. `faults`: one mapping a fault that began
    (`fault_record`).
    `token_gaps_ms`: the gaps between two tokens of one request; `token_gap_counts`: how often each of them occurred.
    `request_gaps_ms`: the same by number of the request, from a world that measures them.
    `evidence`: what the world wants known about the run itself; under `measured`, what another run of the same scenario
    need not repeat.
    """

    requests: list[RequestRecord] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    background: list[dict[str, Any]] = field(default_factory=list)
    paths: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    token_gaps_ms: list[float] = field(default_factory=list)
    token_gap_counts: list[int] = field(default_factory=list)
    request_gaps_ms: Mapping[int, Sequence[float]] = field(default_factory=dict)
    duration_s: float = 0.0
    evidence: dict[str, Any] = field(default_factory=dict)
