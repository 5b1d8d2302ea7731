"""Mooncake's Conductor: balance decode load, and turn away what would miss its objective."""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.errors import RejectedError
from scheduler.view import View
from workloads import Request


class Conductor:
    """argmin load for decode; reject if TTFT > TTFT_SLO or TBT > TBT_SLO: Mooncake (FAST'25), Algorithm 1; ties random.

    From the paper (arXiv 2407.00079): kvcache-ai/Mooncake at 3b5a594 has the transfer engine, not this scheduler.

    There TTFT is the estimate of prefill's queue and run, made at arrival; here prefill is over when decode is chosen,
    so it is the time since arrival with the nominal transfer, admission and first step to come. TBT is the step time
    with the request in the batch. The objectives are the scenario's (`slo`).
    """

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        decode_id = candidates.best_at_random(-candidates.load, view.rng)
        at = int(candidates.decode_id.searchsorted(decode_id))
        tbt_s = float(candidates.first_step_s[at])
        sending_s = view.kv_bytes(request, candidates) / view.nominal_Bps(candidates)
        transfer_s = view.latency_s(candidates) + view.moving_s(request, sending_s)
        to_come_s = float(transfer_s[at] + candidates.admission_wait_s[at]) + tbt_s
        ttft_s = view.now_s - request.timestamp_s + to_come_s
        if tbt_s > view.slo.tpot_s:
            raise RejectedError(f"TBT would be {tbt_s * 1e3:.0f} ms, its objective is {view.slo.tpot_s * 1e3:.0f} ms")
        if ttft_s > view.slo.ttft_s:
            raise RejectedError(f"TTFT would be {ttft_s:.1f} s, its objective is {view.slo.ttft_s:g} s")
        return decode_id
