"""Dynamo's KV router when it selects a decode worker."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scheduler.arrays import Floats
from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class DynamoDecode:
    """argmin (decode_blocks + w * active) * m: ai-dynamo/dynamo at 07a6c9c, lib/kv-router, scheduling/selector.

    decode_blocks: complete prompt blocks of the worker's active requests and of this one. Answers do not count
    (`router_track_output_blocks` is off), nor does cache credit. `reuse` 1 leaves out own blocks that the instance
    holds, as where `assume_kv_reuse` is on; for decode in a disaggregated set-up the router forces it off. active:
    requests not finished, w by default 0. m: exp(-tanh(`preferred`)) for workers in the `domain` of the prefill
    instance, 1 for others; the weight of `kv_transfer_enforcement=preferred`, 0 to 1; without that policy 0.

    `temperature` above 0 draws with probability ~ exp(-cost / (temperature * (cost_max - cost_min))); at 0, the
    default, ties are at random. Ours: a block is the trace's, and `domain` the highest tier in it (1: the rack).
    """

    active: float = 0.0
    temperature: float = 0.0
    reuse: float = 0.0
    preferred: float = 0.0
    domain: float = 1.0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        cost = decode_blocks(request, candidates, self.reuse) + self.active * candidates.outstanding
        cost = cost * taint_multiplier(candidates, self.preferred, self.domain)
        return pick(cost, candidates, view.rng, self.temperature)


def decode_blocks(request: Request, candidates: Candidates, reuse: float = 0.0) -> Floats:
    """Prompt blocks that each instance would hold with this request, shape [D]; its own less `reuse` x the cached."""
    size = request.block_tokens
    own = request.input_length // size - reuse * (candidates.cached_tokens // size)
    blocks: Floats = candidates.prompt_tokens // size + own
    return blocks


def taint_multiplier(candidates: Candidates, preferred: float, domain: float) -> Floats:
    """exp(-tanh(weight)) where a preferred taint matches, 1 elsewhere, shape [D]: lib/kv-router/src/protocols.rs."""
    multiplier: Floats = np.where(candidates.tier <= domain, math.exp(-math.tanh(preferred)), 1.0)
    return multiplier


def pick(cost: Floats, candidates: Candidates, rng: np.random.Generator, temperature: float) -> int:
    """The instance of least cost; above temperature 0 one drawn by a softmax of the costs over their range."""
    able = np.flatnonzero(candidates.feasible)
    spread = np.ptp(cost[able])
    if temperature <= 0 or spread == 0:
        return candidates.best_at_random(-cost, rng)
    weight = np.exp(-(cost[able] - cost[able].min()) / (temperature * spread))
    drawn = int(np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random()))
    return int(candidates.decode_id[able[min(drawn, len(able) - 1)]])
