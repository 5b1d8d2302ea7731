"""The dispatcher: one decision after another, and the state that the next decision needs.

Owns the state that a router keeps (loads, prefix caches, transfers in flight, the oracle's sample) and drives the
policy. Both worlds call it with their own clock, in real-system seconds; it has none of its own except for timing how
long a decision took.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scenario import Scenario
from scheduler.candidates import Candidates
from scheduler.compilation import load_compiler
from scheduler.errors import InfeasibleError, PolicyError, RejectedError
from scheduler.hooks import hooks_of, tokens_that_begin_a_block
from scheduler.in_flight import REMEMBERED_S, InFlight
from scheduler.link_table import LinkTable
from scheduler.loads import DecodeLoads
from scheduler.oracle import NetworkSample, StalenessStage
from scheduler.policy import POLICIES, Policy, choose, policy_of, says_it_reads_none
from scheduler.prefix_index import PrefixIndex
from scheduler.view import Expected, View
from topologies import Fabric, Roles
from workloads import BLOCK_TOKENS, Request

CORRUPTED = "the document is corrupted"
"""Why a snapshot is refused while a fault damages telemetry."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice and what it was based on. Times in milliseconds of the real system; `decision_us` is wall time.

    `snapshot_s`: time of the telemetry sample that was used, seconds from t = 0, NaN without one; `oracle_age_ms` is
    infinite then. `fallback` is empty, or why a policy that reads telemetry decided without it. `reason`: what the
    policy itself says of its choice; most say nothing.
    """

    request_id: int
    decided_s: float
    prefill_id: int
    decode_id: int
    tier: int
    cached_tokens: int
    kv_bytes: int
    predicted_kv_transfer_ms: float
    snapshot_s: float
    oracle_age_ms: float
    decision_us: float
    fallback: str
    reason: str = ""


class _Sent(NamedTuple):
    """A transfer in flight, or held until there is memory for it, as it was predicted, from a snapshot or not."""

    prefill_id: int
    decode_id: int
    expected: Expected
    tier: int
    started_s: float
    informed: bool


class Dispatcher:
    """The scheduler of one run of a scenario."""

    def __init__(
        self,
        scenario: Scenario,
        fabric: Fabric,
        roles: Roles,
        policy: Policy | None = None,
        stopwatch: Callable[[], int] = time.perf_counter_ns,
        block_tokens: int = BLOCK_TOKENS,
        prefixes: PrefixIndex | None = None,
    ) -> None:
        """`block_tokens`: tokens of a prefix block, the same for all requests of the run.

        `prefixes`: what the decode instances hold already; None: nothing.
        """
        serving = scenario.serving
        self.policy_name = scenario.policy
        self.policy = policy if policy is not None else policy_of(scenario)
        self._limit_s = None if scenario.policy in POLICIES else scenario.policy_limit_s
        self._reads_none = says_it_reads_none(self.policy)
        self._hooks = hooks_of(self.policy, self.policy_name, self._limit_s)
        knobs = scenario.oracle
        self.oracle = StalenessStage(
            knobs.refresh_s,
            delay_s=knobs.delay_s,
            loss=knobs.loss,
            noise=knobs.noise,
            smoothing_s=knobs.smoothing_s if knobs.smoothing == "ewma" else 0.0,
            rng=scenario.rng("oracle"),
        )
        self._most_age_s = knobs.most_age_s
        self._kappa = scenario.model.kv_bytes_per_token
        self._memory_tokens = serving.kv_memory_tokens
        self._stopwatch = stopwatch
        self._table = LinkTable(fabric, roles)
        longest_delay_s = knobs.delay_s + scenario.faults.longest_delay_s
        self._in_flight = InFlight(self._table, REMEMBERED_S + longest_delay_s)
        self._dead: set[int] = set()
        self._loads = DecodeLoads(len(roles.decode), serving, scenario.model, scenario.oracle.load_refresh_s)
        self._block_tokens = block_tokens
        capacity_blocks = serving.prefix_cache_tokens // block_tokens
        self.prefixes = PrefixIndex(len(roles.decode), capacity_blocks) if prefixes is None else prefixes
        self._view = View(
            self._table,
            self._in_flight,
            kv_bytes_per_token=self._kappa,
            stripes=serving.stripes,
            transfer_full=serving.transfer == "full",
            rng=scenario.rng("policy"),
            slo=scenario.slo,
            by_tier=scenario.oracle.view == "tier",
            window_s=0.0 if scenario.oracle.source == "exact" else scenario.oracle.poll_s,
            batch_slots=serving.batch_slots,
            iteration_s=scenario.model.step_s(1),
            overlap=serving.overlap,
            prefill_s=lambda tokens: scenario.model.prefill_s(tokens, scenario.fabric.gpus_per_instance),
        )
        self._sent: dict[int, _Sent] = {}
        self._placed: dict[int, tuple[int, Request]] = {}
        self._running: set[int] = set()
        self._load_compiled_code(roles.prefill[0])

    def offer_sample(self, sample: NetworkSample | None, now_s: float, refused: str = "") -> None:
        """Hand over the oracle's latest telemetry snapshot; the staleness stage decides whether it is adopted.

        `None`, with the reason that it was `refused`, when nothing valid could be read: if a snapshot was due,
        decisions use nominal bandwidths until the next one, because numbers of unknown age are not used.
        """
        if self.oracle.corrupted and sample is not None:
            sample, refused = None, CORRUPTED
        due = self.oracle.due(now_s)
        if self.oracle.offer(sample, now_s) and self.oracle.held is not None:
            self._view.adopt(self.oracle.held)
        elif due and sample is None and not self.oracle.frozen:
            self._view.lose(refused or "no document")

    def select(self, request: Request, prefill_id: int, now_s: float, avoided: Collection[int] = ()) -> Decision:
        """Choose the decode instance of a request whose prefill has ended at `now_s`, and account for the transfer.

        An instance that is `avoided` is a candidate where no other is.

        RejectedError when the request is rejected: InfeasibleError when no instance could ever hold it, the policy's
        own reason otherwise. PolicyError when the policy breaks its contract. In neither case is anything booked, but
        where it breaks it on hearing that the request is placed.
        """
        started_ns = self._stopwatch()
        self._view.move_to(now_s)
        if self.oracle.deliver(now_s) and self.oracle.held is not None:
            self._view.adopt(self.oracle.held)
        if self._view.sample is not None and self._view.age_s > self._most_age_s:
            self._view.lose(f"the snapshot is older than {self._most_age_s:g} s")
        if not self._loads.could_hold(request):
            need = request.input_length + request.output_length  # the longest that it may get
            raise InfeasibleError(f"needs {need} tokens of KV memory, an instance has {self._memory_tokens}")
        if not self._loads.anybody:
            raise RejectedError("no decode instance is running")
        candidates = self._candidates(request, prefill_id, now_s, avoided)
        chosen = choose(self.policy, self.policy_name, request, candidates, self._view, self._limit_s)
        if self._reads_none and self._view.telemetry_read:
            raise PolicyError(
                f"policy {self.policy_name} read telemetry for request {request.request_id}, although its class says"
                " `reads_telemetry = False`"
            )
        fallback, age_s = self._view.missed, self._view.age_s
        decision_us = (self._stopwatch() - started_ns) / 1e3
        at = self._table.position[chosen]
        expected, tier = self._view.transfer(request, candidates, at), int(candidates.tier[at])
        self._placed[request.request_id] = (at, request)
        self._loads.dispatched(at, request)
        if expected.kv_bytes:
            number, informed = request.request_id, math.isfinite(age_s)
            self._in_flight.start(number, prefill_id, chosen, expected.rate_Bps, now_s, expected.kv_bytes)
            self._sent[number] = _Sent(prefill_id, chosen, expected, tier, now_s, informed)
        if self._hooks is not None:
            self._hooks.tell("placed", request, chosen)
        return Decision(
            request_id=request.request_id,
            decided_s=now_s,
            prefill_id=prefill_id,
            decode_id=chosen,
            tier=tier,
            cached_tokens=int(candidates.cached_tokens[at]),
            kv_bytes=round(expected.kv_bytes),
            predicted_kv_transfer_ms=expected.duration_s * 1e3,
            snapshot_s=now_s - age_s if math.isfinite(age_s) else math.nan,
            oracle_age_ms=age_s * 1e3,
            decision_us=decision_us,
            fallback=fallback,
            reason=str(getattr(self.policy, "reason", "")),
        )

    @property
    def unrepeatable(self) -> str:
        """Why the policy need not decide alike in the same run once more; empty if it does."""
        return str(getattr(self.policy, "unrepeatable", ""))

    def token_marks(self, request: Request) -> range | tuple[()]:
        """The tokens of a request's answer, counted from 1, at which `token_block` is due; none if nobody asks."""
        wanted = self._hooks is not None and "token_block" in self._hooks
        return tokens_that_begin_a_block(request) if wanted else ()

    # PolicyError at any of these: the policy broke its contract on being told; what is booked is right.

    def transferred(self, request_id: int, now_s: float = -np.inf) -> None:
        """The KV has arrived: its blocks can be shared from now on. `now_s` gives the transfer's duration."""
        at, request = self._placed[request_id]
        self._forget_transfer(request_id, now_s)
        self.prefixes.insert(at, request.block_ids)
        if self._hooks is not None:
            self._tell("transferred", at, request)

    def hold(self, request_id: int) -> None:
        """The transfer that was just selected waits for memory at its decode instance: it is not on the network."""
        if request_id in self._in_flight:
            self._in_flight.stop(request_id)

    def release(self, request_id: int, now_s: float) -> None:
        """The transfer of a request starts now. Nothing changes where it did not wait."""
        if request_id in self._sent and request_id not in self._in_flight:
            sent = self._sent[request_id]
            self._sent[request_id] = sent._replace(started_s=now_s)
            ends, expected = (sent.prefill_id, sent.decode_id), sent.expected
            self._in_flight.start(request_id, *ends, expected.rate_Bps, now_s, expected.kv_bytes)

    def admitted(self, request_id: int) -> None:
        """The request joined the batch of its decode instance."""
        at, request = self._placed[request_id]
        self._loads.admitted(at)
        self._running.add(request_id)
        if self._hooks is not None:
            self._tell("admitted", at, request)

    def token_block(self, request_id: int) -> None:
        """A token of the request's answer has begun another block of KV."""
        if self._hooks is not None:
            self._tell("token_block", *self._placed[request_id])

    def finished(self, request_id: int) -> None:
        """The request emitted its last token."""
        at, request = self._placed.pop(request_id)
        self._running.remove(request_id)
        self._loads.finished(at, request)
        if self._hooks is not None:
            self._tell("finished", at, request)

    def failed(self, request_id: int) -> None:
        """A request that has a decode instance and will not finish, in whatever state it is."""
        at, request = self._placed.pop(request_id)
        self._forget_transfer(request_id)
        self._loads.abandoned(at, request, running=request_id in self._running)
        self._running.discard(request_id)
        if self._hooks is not None:
            self._tell("finished", at, request)

    def lost(self, decode_id: int) -> None:
        """A decode instance has ended and its caches with it: it is not chosen until `restored`."""
        self._dead.add(self._table.position[decode_id])
        self.prefixes.clear(self._table.position[decode_id])
        self._loads.set_dead(frozenset(self._dead))

    def restored(self, decode_id: int) -> None:
        """A decode instance runs again, with empty caches."""
        self._dead.discard(self._table.position[decode_id])
        self._loads.set_dead(frozenset(self._dead))

    def _tell(self, step: str, at: int, request: Request) -> None:
        assert self._hooks is not None
        self._hooks.tell(step, request, int(self._table.decode_id[at]))

    def _forget_transfer(self, request_id: int, now_s: float = -np.inf) -> None:
        sent = self._sent.pop(request_id, None)
        if sent is None or request_id not in self._in_flight:
            return
        self._in_flight.stop(request_id, sent.expected.kv_bytes, now_s)
        if sent.informed and now_s > sent.started_s:
            self._view.transferred(sent.tier, sent.expected.by_model_s, now_s - sent.started_s)

    def _load_compiled_code(self, prefill_id: int) -> None:
        """Compile, or read from disk, what the first requests would otherwise wait for; nothing else changes."""
        load_compiler()
        anyone = self._candidates(Request(-1, 0.0, 1, 1, ()), prefill_id, -np.inf)
        anyone.best(anyone.decode_id)  # no two alike: nothing is drawn
        empty = np.zeros(len(self._table.capacity_Bps))
        self._table.book(empty.copy(), 1.0, prefill_id, int(self._table.decode_id[0]))
        self._table.available(prefill_id, 1, empty, self._in_flight.count, 0.0)
        passing = InFlight(self._table)
        passing.start(-1, prefill_id, int(self._table.decode_id[0]), 1.0, 0.0, 1)
        passing.own_Bps(0.0, 0.0)
        passing.stop(-1, 1, 1.0)

    def _candidates(self, request: Request, prefill_id: int, now_s: float, avoided: Collection[int] = ()) -> Candidates:
        loads = self._loads
        loads.look(now_s)
        cached = self.prefixes.matched_blocks(request.block_ids)
        cached *= self._block_tokens
        np.minimum(cached, request.input_length, out=cached)
        feasible = loads.feasible(request)
        if avoided:
            others = feasible & ~np.isin(self._table.decode_id, list(avoided))
            feasible = others if others.any() else feasible
        return Candidates(
            prefill_id=prefill_id,
            decode_id=self._table.decode_id,
            tier=self._table.tier[prefill_id],
            cached_tokens=cached,
            waiting=loads.waiting,
            running=loads.running,
            reserved_tokens=loads.reserved_tokens,
            kv_use=loads.reserved_tokens / self._memory_tokens,
            outstanding=loads.outstanding,
            prompt_tokens=loads.prompt_tokens,
            sent_since=loads.sent_since,
            admission_wait_s=loads.admission_wait_s(request),
            first_step_s=loads.first_step_s,
            feasible=feasible,
            rng=self._view.rng,
        )
