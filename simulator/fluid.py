"""The finishing time of each of many flows whose starts, sizes and paths are known beforehand.

The batch form of the fluid network, checked thoroughly and run in one compiled loop. A caller who decides
as it goes uses `simulator.network.FluidNetwork`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.tables import Floats, empty_tables
from simulator.timeline import replay


class NoProgressError(RuntimeError):
    """Flows are left and none of them will ever end."""


def simulate_flows(
    capacity_Bps: ArrayLike, start_s: ArrayLike, size_B: ArrayLike, paths: Sequence[ArrayLike]
) -> Floats:
    """Return when each flow ends, s, if at every instant all flows have their max-min fair rates.

    capacity_Bps: [links] B/s, positive. start_s: [flows] s, not negative. size_B: [flows] bytes, not negative; a
    flow of size 0 ends as it starts. paths: for each flow the indices of the links that it crosses, in any order,
    at least one, each at most once. All finite. A fluid has no latency, packets or slow start.

    At one instant the flows that end leave first, then those that start enter in the order of their index, then
    rates are found once. Ill-formed input raises ValueError with one line that names the flow or the link; flows
    so slow that their end is beyond the largest float raise NoProgressError.
    """
    capacity = checked_capacity(capacity_Bps)
    start = _numbers("start_s", "flow", start_s)
    size = _numbers("size_B", "flow", size_B)
    for name, values in (("start_s", start), ("size_B", size)):
        if bad := _first(values < 0):
            raise ValueError(f"{name}: flow {bad - 1} has {values[bad - 1]:g}; it must not be negative")
    if not len(start) == len(size) == len(paths):
        raise ValueError(f"lengths differ: {len(start)} start_s, {len(size)} size_B, {len(paths)} paths")
    first_hop, hops = pack_paths(paths, len(capacity))

    finish_s = np.full(len(start), np.nan)
    slots = max(1, int(np.count_nonzero(size)))
    tables = empty_tables(capacity, slots, max(1, int(np.diff(first_hop).max(initial=0))))
    order = np.argsort(start, kind="stable")
    left = replay(*tables, order, start, size, first_hop, hops, np.zeros(slots, dtype=np.int64), finish_s)
    if left:
        flow = int(np.flatnonzero(np.isnan(finish_s))[0])
        raise NoProgressError(
            f"{left} flows never end, the first is flow {flow}; stuck at {tables.state['clock_s'][0]:g} s"
        )
    return finish_s


def checked_capacity(capacity_Bps: ArrayLike) -> Floats:
    """Return the capacities as floats, [links]; raise ValueError, naming the link, for any not positive and finite."""
    capacity = _numbers("capacity_Bps", "link", capacity_Bps)
    if bad := _first(capacity <= 0):
        raise ValueError(f"capacity_Bps: link {bad - 1} has {capacity[bad - 1]:g}; a capacity must be positive")
    return capacity


def pack_paths(paths: Sequence[ArrayLike], links: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (first_hop [flows + 1], hops): flow i crosses hops[first_hop[i] : first_hop[i + 1]].

    Raises ValueError, naming the flow, for a path that is not a non-empty list of different link indices below `links`.
    """
    arrays = [path if isinstance(path, np.ndarray) else np.asarray(path) for path in paths]
    first_hop = np.zeros(len(arrays) + 1, dtype=np.int64)
    for flow, array in enumerate(arrays):
        if array.ndim != 1:
            raise ValueError(f"paths: flow {flow} has a path of {array.ndim} dimensions; it must have one")
        if len(array) == 0:
            raise ValueError(f"paths: flow {flow} has an empty path; it must cross at least one link")
        if array.dtype.kind not in "iu":
            raise ValueError(f"paths: flow {flow} has link indices of type {array.dtype}; they must be integers")
        first_hop[flow + 1] = len(array)
    np.cumsum(first_hop, out=first_hop)
    if not arrays:
        return first_hop, np.zeros(0, dtype=np.int64)
    hops = np.concatenate(arrays).astype(np.int64)
    flow_of = np.repeat(np.arange(len(arrays)), np.diff(first_hop))
    if bad := _first((hops < 0) | (hops >= links)):
        raise ValueError(
            f"paths: flow {flow_of[bad - 1]} crosses link {hops[bad - 1]}; there are links 0 to {links - 1}"
        )
    crossings = np.sort(flow_of * links + hops)
    if bad := _first(crossings[1:] == crossings[:-1]):
        flow, link = divmod(int(crossings[bad]), links)
        raise ValueError(f"paths: flow {flow} is cyclic: it crosses link {link} twice")
    return first_hop, hops


def _numbers(name: str, noun: str, values: ArrayLike) -> Floats:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} dimensions; it must have one")
    if array.dtype.kind not in "iuf" and array.size:
        raise ValueError(f"{name} has type {array.dtype}; it must hold real numbers")
    numbers = array.astype(np.float64)
    if bad := _first(~np.isfinite(numbers)):
        raise ValueError(f"{name}: {noun} {bad - 1} has {numbers[bad - 1]}; it must be finite")
    return numbers


def _first(bad: NDArray[np.bool_]) -> int:
    """Return 1 + the first index at which `bad` holds, or 0 if there is none."""
    return int(np.argmax(bad)) + 1 if bad.any() else 0
