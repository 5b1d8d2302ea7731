"""Max-min fair rates by progressive filling: the definition, in numpy, from scratch each time.

The fast engine (`simulator.waterfill`) is compared with it: it is short enough to be checked by eye.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def max_min_rates(
    capacity_Bps: ArrayLike,
    paths: Sequence[ArrayLike],
    weight: ArrayLike | None = None,
    cap_Bps: ArrayLike | None = None,
) -> Floats:
    """Return the rate of each flow, B/s, when no flow can gain without a poorer one losing.

    capacity_Bps: [links], B/s. paths: one array of link indices for each of the flows. weight: [flows], default 1;
    a flow of weight w counts as w flows. cap_Bps: [flows], default inf; a cap is a private link of that capacity.

    All flows rise together, at `level` B/s for each unit of weight, until a link is full; its flows stop there and
    the others rise on (Bertsekas and Gallager, Data Networks, 2nd ed., section 6.5.2, "Max-Min Flow Control").
    A round costs O(entries of all paths), and there are at most as many rounds as links. Input is not validated.
    """
    flows = len(paths)
    capacity = np.asarray(capacity_Bps, dtype=np.float64)
    weights = np.ones(flows) if weight is None else np.asarray(weight, dtype=np.float64)
    if flows == 0:
        return np.zeros(0)
    flow_of = np.repeat(np.arange(flows), [np.size(path) for path in paths])
    link_of = np.concatenate([np.asarray(path, dtype=np.int64).ravel() for path in paths])
    if cap_Bps is not None:
        caps = np.asarray(cap_Bps, dtype=np.float64)
        capped = np.flatnonzero(np.isfinite(caps))
        flow_of = np.concatenate([flow_of, capped])
        link_of = np.concatenate([link_of, len(capacity) + np.arange(len(capped))])
        capacity = np.concatenate([capacity, caps[capped]])

    level = np.zeros(flows)
    rising = np.ones(flows, dtype=bool)
    while rising.any():
        live = rising[flow_of]
        load = np.bincount(link_of, weights=np.where(live, 0.0, (weights * level)[flow_of]), minlength=len(capacity))
        growth = np.bincount(link_of[live], weights=weights[flow_of[live]], minlength=len(capacity))
        crossed = growth > 0
        fills_at = np.full(len(capacity), np.inf)
        fills_at[crossed] = (capacity - load)[crossed] / growth[crossed]
        first = fills_at.min()
        stops = flow_of[live & (fills_at[link_of] <= first)]
        level[stops] = first
        rising[stops] = False
    rates: Floats = weights * level
    return rates


def finish_times(capacity_Bps: ArrayLike, start_s: ArrayLike, size_B: ArrayLike, paths: Sequence[ArrayLike]) -> Floats:
    """Return when each flow ends, s: `simulator.fluid.simulate_flows` by the definition, with no validation.

    Between two events, a start or an end, every rate is constant; at each event all rates are found anew.
    """
    start, size = np.asarray(start_s, dtype=np.float64), np.asarray(size_B, dtype=np.float64)
    finish_s = np.where(size > 0, np.nan, start)
    left_B = size.copy()
    waiting = [int(flow) for flow in np.argsort(start, kind="stable") if size[flow] > 0]
    active: list[int] = []
    clock_s = 0.0
    while waiting or active:
        rates = max_min_rates(capacity_Bps, [paths[flow] for flow in active])
        time_left_s = left_B[active] / rates
        end_s = clock_s + time_left_s.min(initial=np.inf)
        event_s = min(end_s, start[waiting[0]]) if waiting else end_s
        left_B[active] -= rates * (event_s - clock_s)
        ended = [active[i] for i in np.flatnonzero(clock_s + time_left_s <= event_s)]
        finish_s[ended] = clock_s = event_s
        active = [flow for flow in active if np.isnan(finish_s[flow])]
        while waiting and start[waiting[0]] == clock_s:
            active.append(waiting.pop(0))
    return finish_s
