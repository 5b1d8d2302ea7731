"""The transfer cost that was proposed for Dynamo: the closest public relative of NetKV-Static."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.candidates import Candidates
from scheduler.policies.dynamo_decode import decode_blocks, pick, taint_multiplier
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class DynamoQos:
    """argmin (decode_blocks + w * (latency + kv_bytes / bandwidth)) * m: ai-dynamo/dynamo issue 9118; ties at random.

    Latency and bandwidth come from a static table, here the tier's nominal ones; kv_bytes is the whole prompt's, as
    the proposal derives it. It names no w: ours is 1,000 blocks a second, so that the 0.3 s which the mean prompt takes
    over a quarter of a 400 Gbit/s NIC weigh as much as the blocks of a dozen such requests. Of that issue only the
    multiplier m is in Dynamo today: `preferred` and `domain` are those of `dynamo_decode`, `weight=0` leaves just it.
    """

    weight: float = 1000.0
    preferred: float = 0.0
    domain: float = 1.0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        kv_bytes = view.prompt_bytes(request)
        transfer_s = view.latency_s(candidates) + kv_bytes / view.tier_Bps(candidates)
        cost = decode_blocks(request, candidates) + self.weight * transfer_s
        return pick(cost * taint_multiplier(candidates, self.preferred, self.domain), candidates, view.rng, 0.0)
