"""Dynamo's KV router when it selects a decode worker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.arrays import Floats
from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class DynamoDecode:
    """argmin decode_blocks + w * active: Dynamo lib/kv-router selector/default.rs; ties at random.

    decode_blocks: KV blocks in use with the request placed there; active: outstanding requests. In a disaggregated
    set-up cache credit is forced to 0 for decode. w is `--router-decode-active-request-weight`, 0 by default.
    """

    active: float = 0.0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        cost = decode_blocks(request, candidates) + self.active * candidates.load
        return candidates.best_at_random(-cost, view.rng)


def decode_blocks(request: Request, candidates: Candidates) -> Floats:
    """Blocks of KV memory that each instance would have promised with this request."""
    size = request.block_tokens
    blocks: Floats = np.ceil(candidates.reserved_tokens / size) + -(-request.input_length // size)
    return blocks
