"""The cells of the fidelity study (`tests.bench.fidelity_study`): emulations that differ in a few knobs."""

from __future__ import annotations

from typing import Any

from experiments.running.run_spec import RunSpec, make_spec

BASE = {
    "workload.requests": 30,
    "workload.max_input_tokens": 12_000,
    "workload.max_output_tokens": 8,
    "policy": "cla",
    "serving.connections": "per_transfer",
    "emulation.queue": "fifo",
    "emulation.queue_packets": 100,
    "emulation.datapath": "user",
    "emulation.rate_scale": 2500.0,
    "emulation.vswitchd": "shared",
    "emulation.burst_ms": 3.0,
    "emulation.paced": False,
}
"""Short requests, so that a run takes seconds; a policy blind to the network, so that cells differ less. The
emulation is what used to be the default before this study (its buckets held ten packets, 1.5 to 6 ms by link)."""

PERSISTENT = {"serving.connections": "persistent"}
FAIR = {"emulation.queue": "fair"}
SLOW = {"emulation.rate_scale": 5000.0}
TIGHT = {"emulation.burst_ms": 1.0}
PACED = {"emulation.paced": True}
AFXDP = {"emulation.datapath": "afxdp"}
BEST = {**AFXDP, **PERSISTENT, **FAIR, **SLOW, **TIGHT, **PACED}
MODERATE = {"congestion.kind": "constant"}
QUIET = {"congestion.kind": "none"}
USER = {**BEST, "emulation.datapath": "user", "emulation.burst_ms": 2.0}
FAST = {**BEST, "emulation.rate_scale": 2500.0}

CELLS: dict[str, dict[str, Any]] = {
    "best": BEST,
    "best_moderate": {**BEST, **MODERATE},
    "best_quiet": {**BEST, **QUIET},
    "best_but_user": USER,
    "best_but_user_moderate": {**USER, **MODERATE},
    "best_but_user_quiet": {**USER, **QUIET},
    "best_but_2500": FAST,
    "best_but_2500_moderate": {**FAST, **MODERATE},
    "best_but_2500_quiet": {**FAST, **QUIET},
    "best_but_fresh": {**BEST, "serving.connections": "per_transfer"},
    "best_but_fresh_moderate": {**BEST, **MODERATE, "serving.connections": "per_transfer"},
    "best_but_fifo": {**BEST, "emulation.queue": "fifo"},
    "best_but_queue_1000": {**BEST, "emulation.queue_packets": 1000},
    "best_but_burst_02ms": {**BEST, "emulation.burst_ms": 0.2},
    "best_but_burst_02ms_moderate": {**BEST, **MODERATE, "emulation.burst_ms": 0.2},
    "best_but_burst_6ms": {**BEST, "emulation.burst_ms": 6.0},
    "best_but_burst_6ms_moderate": {**BEST, **MODERATE, "emulation.burst_ms": 6.0},
    "best_but_unpaced": {**BEST, "emulation.paced": False},
    "best_but_bbr": {**BEST, "emulation.congestion_control": "bbr"},
    "best_but_window_40": {**BEST, "emulation.initial_window_packets": 40},
    "best_but_output_1": {**BEST, "emulation.limit_output_bytes": 1},
    "best_but_stripes_1": {**BEST, "serving.stripes": 1},
    "best_but_own": {**USER, "emulation.vswitchd": "own"},
    "former": {},
    "former_moderate": MODERATE,
}
"""`best` is the default of today (a test holds that), `best_but_user` of machines without AF_XDP.
Each of the others differs from `best` in one thing (those with datapath=user in the burst as well), under three
kinds of background, and `former` in all of them."""


def spec_of(cell: str, seed: int) -> RunSpec:
    """The specification of a run of a cell."""
    return make_spec({}, {**BASE, **CELLS[cell], "seed": seed})
