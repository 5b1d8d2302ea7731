"""Background traffic: which flows load the fabric, and when. A pure plan from the seed, replayed by either world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from topologies import Fabric, Roles

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Spell = Annotated[float, Field(ge=0.01, allow_inf_nan=False)]
"""Mean of a spell of traffic or silence, seconds: a plan of shorter ones would be longer than any run of it."""

BACKGROUND_TAIL_S = 60.0
"""The plan of background traffic goes on this long beyond the last arrival, real seconds."""


class CongestionSpec(BaseModel):
    """The kind of background congestion and its time scale, in real seconds.

    `onoff`: for an exponential time of mean `mean_on_s` a hot spot of `flows` greedy TCP connections runs into one
    decode server, drawn anew each time; then silence for an exponential time of mean `mean_off_s`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none", "onoff"] = "onoff"
    flows: Annotated[int, Field(ge=1, le=1024)] = 8
    mean_on_s: Spell = 5.0
    mean_off_s: Spell = 5.0


@dataclass(frozen=True, slots=True)
class BackgroundFlow:
    """`connections` greedy TCP connections from one instance to another between two instants of the run, seconds."""

    flow_id: int
    start_s: float
    stop_s: float
    source: int
    target: int
    connections: int = 1


def plan_background(
    spec: CongestionSpec, fabric: Fabric, roles: Roles, horizon_s: float, rng: np.random.Generator
) -> tuple[BackgroundFlow, ...]:
    """Every background flow that starts before `horizon_s`, in order of its start."""
    if spec.kind == "none":
        return ()
    plan: list[BackgroundFlow] = []
    at_s = float(rng.exponential(spec.mean_off_s))
    while at_s < horizon_s:
        stop_s = at_s + float(rng.exponential(spec.mean_on_s))
        target = int(rng.choice(roles.decode))
        for source in _other_racks(fabric, target, spec.flows, rng):
            plan.append(BackgroundFlow(len(plan), at_s, stop_s, source, target))
        at_s = stop_s + float(rng.exponential(spec.mean_off_s))
    return tuple(plan)


def _other_racks(fabric: Fabric, target: int, count: int, rng: np.random.Generator) -> list[int]:
    """Sources in turn from a shuffled list of the instances outside the target's rack (outside its server if none)."""
    everyone = [instance.index for instance in fabric.instances]
    far = [source for source in everyone if fabric.tier(source, target) >= 2]
    pool = far or [source for source in everyone if fabric.tier(source, target) >= 1]
    order = rng.permutation(len(pool)).tolist()
    return [pool[order[k % len(order)]] for k in range(count)] if pool else []
