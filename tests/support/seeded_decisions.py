"""What a policy decides on forty requests of a seed: the same in every process, whatever the order of its hashes."""

from __future__ import annotations

import numpy as np

from scenario import Scenario, load_requests
from scheduler import POLICIES, Dispatcher, NetworkSample, RejectedError
from tests.support.one_decision import FABRIC, ROLES

__all__ = ["POLICIES", "decisions"]

REJECTED = -1


def decisions(policy: str, seed: int = 0) -> list[int]:
    """The instances of forty requests under telemetry drawn at random, REJECTED where a policy turned one away."""
    scenario = Scenario.model_validate({"policy": policy, "seed": seed, "workload": {"requests": 40}})
    made = Dispatcher(scenario, FABRIC, ROLES)
    rng = np.random.default_rng(7)
    chosen: list[int] = []
    placed: list[int] = []
    for asked in load_requests(scenario):
        made.offer_sample(NetworkSample(asked.timestamp_s, rng.random(len(FABRIC.links))), asked.timestamp_s)
        try:
            chosen.append(made.select(asked, ROLES.prefill[asked.request_id % 8], asked.timestamp_s).decode_id)
            placed.append(asked.request_id)
        except RejectedError:
            chosen.append(REJECTED)
        if len(placed) > 4:
            oldest = placed.pop(0)
            for event in (made.transferred, made.admitted, made.finished):
                event(oldest)
    return chosen
