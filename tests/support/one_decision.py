"""One decision to be worked by hand, on the default fabric with prefill instance 0.

The decode instances 2 and 3 stand in the same rack (tier 1, 25 GB/s), 6 and 7 in the same pod (tier 2, 12.5 GB/s), 10,
11, 14 and 15 across pods (tier 3, 6.25 GB/s). A prompt of 1,000 tokens has 327.68 MB of KV: 13.1, 26.2 and 52.4 ms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scheduler import Candidates, NetworkSample, View
from scheduler.in_flight import InFlight
from scheduler.link_table import LinkTable
from topologies import FabricSpec, build_fattree, place
from workloads import Request

FABRIC = build_fattree(FabricSpec())
ROLES = place(FABRIC)
TABLE = LinkTable(FABRIC, ROLES)
REQUEST = Request(0, 0.0, 1000, 10, (0, 1))
KAPPA = 327_680.0
DECODE = (2, 3, 6, 7, 10, 11, 14, 15)
TIES_TO_THE_FIRST = 23
"""A seed whose first draw among any two to eight is the first, so that a tie does not blur what is worked by hand."""
SERVER_OF = {2: "tor0>srv1", 6: "tor1>srv3", 10: "tor2>srv5", 14: "tor3>srv7"}


def per_decode(kind: type, values: dict[int, Any], default: Any) -> Any:
    return np.array([values.get(decode, default) for decode in DECODE], dtype=kind)


def candidates(seed: int = TIES_TO_THE_FIRST, **given: dict[int, Any]) -> Candidates:
    """Idle instances, but for what is given of some by their id. `outstanding`: waiting and running, if not given.

    Ties that `best` leaves are drawn by `seed`.
    """
    zero_int = {name: per_decode(np.int64, given.get(name, {}), 0) for name in (
        "cached_tokens", "waiting", "running", "reserved_tokens", "prompt_tokens", "sent_since")}  # fmt: skip
    counted = zero_int["waiting"] + zero_int["running"]
    zero_float = {name: per_decode(np.float64, given.get(name, {}), 0) for name in (
        "kv_use", "admission_wait_s", "first_step_s")}  # fmt: skip
    return Candidates(
        prefill_id=0,
        decode_id=np.array(DECODE),
        tier=TABLE.tier[0],
        feasible=per_decode(np.bool_, given.get("feasible", {}), True),
        outstanding=per_decode(np.int64, given["outstanding"], 0) if "outstanding" in given else counted,
        rng=np.random.default_rng(seed),
        **zero_int,
        **zero_float,
    )


def view(
    busy: tuple[str, ...] | None = None, in_flight: InFlight | None = None, *, full: bool = False, seed: int = 0
) -> View:
    """The network with the `busy` links full and all others idle; None: no sample has come yet."""
    found = View(
        TABLE,
        in_flight or InFlight(TABLE),
        kv_bytes_per_token=KAPPA,
        stripes=4,
        transfer_full=full,
        rng=np.random.default_rng(seed),
    )
    if busy is not None:
        found.adopt(NetworkSample(0.0, np.array([1.0 if link.name in busy else 0.0 for link in FABRIC.links])))
    return found
