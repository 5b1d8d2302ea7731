"""Whether a specification fits a machine: the load that the analytic world predicts over what a calibration measured.

Two things bind. The links must not be faster than the machine carries a single transfer, or an idle path gives less
than its rate; and all switches together must not be asked for more frames a second than one vswitchd forwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from experiments.running import RunSpec
from simulator import AnalyticWorld
from testbed import FRAMES_A_SEGMENT, PAYLOAD_BYTES, Capacity

WINDOW_S = 0.5
BUSY = 0.9
"""The load is that of windows of `WINDOW_S`, real seconds, of which so many are less full."""

FITS = 0.5
DOUBTFUL = 0.75
"""Up to which share of what the machine carries a run is expected to be valid, and up to which it may be. Measured:
valid at 0.37, suspect at 0.57, invalid at 0.91 (docs/explanation/cost.md)."""

WITHOUT_LOSS_BPS = 370e6
"""The most that counts of what one path of a userspace datapath carries, bit/s: a port's socket holds some 92 frames
while vswitchd looks elsewhere. On a machine with 609 Mbit/s on a path, links of 182 Mbit/s lost no frame outside of
queues, and links of 213 and 303 Mbit/s lost 35 to 130 of some 9,000 (docs/explanation/cost.md)."""


@dataclass(frozen=True)
class Load:
    """What a specification asks of a fabric in real units: payload through switches, bytes a second, each counted at
    every switch that it passes, in busy windows and on average; the rate of an idle path in a rack, bit/s."""

    busy_Bps: float
    mean_Bps: float
    path_bps: float
    seconds: float


def predict_load(spec: RunSpec) -> Load:
    """Replay the specification in the analytic world and count what its links carry."""
    simulation = spec.simulation.model_copy(update={"link_sample_s": WINDOW_S})
    fabric, roles = spec.build()
    with AnalyticWorld(spec.scenario, simulation) as world:
        outcome = world.run(spec.scenario)
    into_switches = [link.name for link in fabric.links if link.target in fabric.switch_by_name]
    rows = pd.DataFrame(outcome.links)
    carried = rows[rows["link"].isin(into_switches)].groupby("time_s")["bytes"].sum()
    rates = [
        (carried.loc[end_s] - carried.loc[begin_s]) / (end_s - begin_s) for begin_s, end_s in pairwise(carried.index)
    ]
    apart = [(p, d) for p in roles.prefill for d in roles.decode if fabric.tier(p, d) > 0] or [
        (p, d) for p in roles.prefill for d in roles.decode if p != d
    ]
    near = min(apart, key=lambda pair: fabric.tier(*pair))
    return Load(
        busy_Bps=float(np.quantile(rates, BUSY)) if rates else 0.0,
        mean_Bps=float(sum(rates) / max(len(rates), 1)),
        path_bps=min(fabric.links[link].capacity_bps for link in fabric.paths(*near)[0]),
        seconds=outcome.duration_s,
    )


def assess_feasibility(spec: RunSpec, load: Load, capacity: Capacity) -> dict[str, Any]:
    """`prediction`: fits, doubtful or does not fit; `uses`: the shares of the machine's capacity that are asked for,
    the larger one being `binding`; `margin`: how many times the load could be for the run still to fit; `proposals`:
    the least `rate_scale` without dilation, and the least `time_dilation` at the given scale, that fit.
    """
    divisor = spec.emulation.link_divisor
    most_bps = WITHOUT_LOSS_BPS if spec.emulation.datapath == "user" else math.inf
    busy_per_s, mean_per_s = (_frames_per_s(rate_Bps / divisor) for rate_Bps in (load.busy_Bps, load.mean_Bps))
    uses = {
        "idle_path": load.path_bps / divisor / min(capacity.rack_bps, most_bps),
        "switches": busy_per_s / capacity.switched_per_s,
    }
    binding = max(uses, key=uses.__getitem__)
    use = uses[binding]
    needed = divisor * use / FITS
    bringup_s = capacity.bringup_s * _nodes(spec) / (capacity.hosts + capacity.switches)
    return {
        "prediction": "fits" if use <= FITS else "doubtful" if use <= DOUBTFUL else "does not fit",
        "binding": binding,
        "uses": uses,
        "margin": FITS / use,
        "busy_switched_per_s": busy_per_s,
        "mean_switched_per_s": mean_per_s,
        "path_mbps": load.path_bps / divisor / 1e6,
        "bringup_s": bringup_s,
        "run_s": load.seconds * spec.emulation.time_dilation,
        "proposals": {
            "rate_scale": _rounded_up(max(needed, 1.0)),
            "time_dilation": max(_rounded_up(needed / spec.emulation.rate_scale), 1.0),
        },
    }


def _frames_per_s(payload_Bps: float) -> float:
    return payload_Bps / PAYLOAD_BYTES * FRAMES_A_SEGMENT


def _nodes(spec: RunSpec) -> int:
    fabric, _ = spec.build()
    return len(fabric.instances) + len(fabric.switches)


def _rounded_up(value: float) -> float:
    """To two significant digits, upwards."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.6g}")
