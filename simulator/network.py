"""A network of links on which flows come and go while the caller decides what happens next.

The form of the fluid engine for event-driven simulation: it owns the clock of the flows, their rates and the byte
counters of the links. Which flows exist, and why, is the caller's business.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.fluid import checked_capacity
from simulator.tables import Floats, Ints, empty_tables, grown_tables
from simulator.timeline import add, advance, next_completion_s, path_flaw, read_links, remove
from simulator.waterfill import open_link, sent_by, solve


class Completion(NamedTuple):
    """A flow that has sent all its bytes, and when."""

    flow: int
    finish_s: float


class FluidNetwork:
    """Flows with max-min fair rates on links of fixed capacity.

    Rates change only when a flow enters or leaves. They are found when they are next needed, so any number of changes
    at one instant costs one solve. A solve touches only links and flows near those whose rate changes
    (`simulator.waterfill` says why that is exact). A flow is named by the number that `add` returned: 0, 1, 2...
    """

    def __init__(self, capacity_Bps: ArrayLike, start_s: float = 0.0) -> None:
        """capacity_Bps: [links] B/s, positive and finite. start_s: the first reading of the clock, s."""
        capacity = checked_capacity(capacity_Bps)
        self._links = len(capacity)
        self._stride = 8
        self._tables = empty_tables(capacity, slots=64, stride=self._stride)
        self._clock_s = _checked_time("start_s", start_s, at_least_s=-math.inf)
        self._tables.state["clock_s"] = self._clock_s
        self._clock: Floats = self._tables.state["clock_s"]
        self._next_s: float | None = math.inf  # when the next flow ends; None: not known, the rates are to be found
        self._ended = _work_space(64)
        self._slot_of: dict[int, int] = {}
        self._added = 0
        self._completed: list[Completion] = []
        self._private_link_of: dict[int, int] = {}  # a cap on the rate of a flow is a link that only it crosses
        self._idle_private_links: list[int] = []

    def fork(self) -> FluidNetwork:
        """A copy that goes on by itself from this instant."""
        copied = copy.copy(self)
        copied._tables = type(self._tables)(*(table.copy() for table in self._tables))
        copied._clock = copied._tables.state["clock_s"]
        copied._ended = _work_space(len(self._tables.flows))
        copied._slot_of, copied._private_link_of = dict(self._slot_of), dict(self._private_link_of)
        copied._completed, copied._idle_private_links = list(self._completed), list(self._idle_private_links)
        return copied

    @property
    def clock_s(self) -> float:
        """The time up to which everything is known, s."""
        return self._clock_s

    @property
    def flows(self) -> list[int]:
        """The flows present, in the order in which they were added."""
        return list(self._slot_of)

    def add(
        self,
        path: Sequence[int] | NDArray[np.integer],
        size_B: float = np.inf,
        *,
        weight: float = 1.0,
        cap_Bps: float = np.inf,
    ) -> int:
        """Start a flow at the clock and return its number.

        path: the links that it crosses, each once. size_B: bytes to send; inf sends until `remove`; a flow of
        size 0 is complete at once. weight: how many equal connections the flow stands for, 1e-6 to 1e9. cap_Bps: the
        most that it ever sends, B/s, whatever the links offer. Raises ValueError, with the network unchanged, for
        anything else.
        """
        links = self._checked_path(path)
        if not size_B >= 0:
            raise ValueError(f"flow {self._added} has size_B {size_B}; it must be 0 or more")
        if not 1e-6 <= weight <= 1e9:
            raise ValueError(f"flow {self._added} has weight {weight}; it must lie between 1e-6 and 1e9")
        if not cap_Bps > 0:
            raise ValueError(f"flow {self._added} has cap_Bps {cap_Bps}; it must be positive")
        flow = self._added
        self._added += 1
        if size_B == 0:
            self._completed.append(Completion(flow, self._clock_s))
            return flow
        if cap_Bps < math.inf:
            links = np.append(links, self._private_link(flow, cap_Bps))
        self._make_room(len(links))
        self._next_s = None
        tables = self._tables
        self._slot_of[flow] = add(
            tables.state, tables.links, tables.flows, tables.hops, tables.ending,
            links, float(size_B), float(weight), flow,
        )  # fmt: skip
        return flow

    def remove(self, flow: int) -> float:
        """Stop a flow at the clock and return the bytes that it has sent."""
        slot = self._slot(flow)
        sent_B = self.sent_B(flow)
        state, links, flows, hops, _, ending = self._tables
        self._next_s = None
        remove(state, links, flows, hops, ending, slot, sent_B)
        self._forget(flow)
        return sent_B

    def set_capacity(self, link: int, capacity_Bps: float) -> None:
        """Change the capacity of a link, B/s, from the clock on; ValueError unless it is positive and finite."""
        if not 0 <= link < self._links:
            raise ValueError(f"there is no link {link}; there are links 0 to {self._links - 1}")
        if not 0 < capacity_Bps < np.inf:
            raise ValueError(f"link {link} has capacity_Bps {capacity_Bps}; it must be positive and finite")
        self._tables.links["capacity_Bps"][link] = capacity_Bps
        self._next_s = None
        open_link(self._tables.state, self._tables.links, link)

    def advance(self, to_s: float) -> None:
        """Move the clock to `to_s`; flows that end on the way leave at that very instant and await `pop_completed`."""
        to_s = _checked_time("to_s", to_s, at_least_s=self._clock_s)
        if self._next_s is not None and to_s < self._next_s:
            self._clock_s = self._clock[0] = to_s
            return
        slots, numbers, finish_s = self._ended
        count = advance(*self._tables, to_s, slots, numbers, finish_s)
        self._clock_s, self._next_s = to_s, None
        for flow, at_s in zip(numbers[:count].tolist(), finish_s[:count].tolist(), strict=True):
            self._forget(flow)
            self._completed.append(Completion(flow, at_s))

    def next_completion_s(self) -> float:
        """Return when the next flow ends if none enters or is removed before, s; inf if none ever does."""
        if self._next_s is None:
            self._next_s = next_completion_s(*self._tables)
        return self._next_s

    def pop_completed(self) -> list[Completion]:
        """Return the flows that have ended since the last call, by time, then in the order in which they were added."""
        completed, self._completed = self._completed, []
        return completed

    def rate_Bps(self, flow: int) -> float:
        """Return the rate of a flow, B/s."""
        self._solve()
        record = self._tables.flows[self._slot(flow)]
        return float(record["weight"] * record["level"])

    def rates_Bps(self) -> Floats:
        """Return the rates of the flows present, in the order of `flows`, B/s."""
        self._solve()
        slots = np.fromiter(self._slot_of.values(), dtype=np.int64, count=len(self._slot_of))
        rates: Floats = self._tables.flows["weight"][slots] * self._tables.flows["level"][slots]
        return rates

    def sent_B(self, flow: int) -> float:
        """Return the bytes that a flow has sent until now."""
        return float(sent_by(self._tables.flows[self._slot(flow)], self.clock_s))

    def link_rate_Bps(self) -> Floats:
        """Return what each link carries now, [links] B/s."""
        self._solve()
        return self._read_links()[0]

    def link_carried_B(self) -> Floats:
        """Return what a byte counter on each link would show, [links] bytes since the start.

        Flows that have ended count with exactly their size.
        """
        return self._read_links()[1]

    def _read_links(self) -> tuple[Floats, Floats]:
        state, links, flows, hops, _, ending = self._tables
        rate_Bps = np.zeros(len(links))
        carried_B = links["departed_B"].copy()
        read_links(state, flows, hops, ending, rate_Bps, carried_B)
        return rate_Bps[: self._links], carried_B[: self._links]

    def _solve(self) -> None:
        if self._tables.state["open"][0]:
            solve(*self._tables)

    def _slot(self, flow: int) -> int:
        slot = self._slot_of.get(flow)
        if slot is None:
            raise ValueError(f"flow {flow} is not in the network: it has ended, was removed or was never added")
        return slot

    def _forget(self, flow: int) -> None:
        del self._slot_of[flow]
        link = self._private_link_of.pop(flow, None)
        if link is not None:
            self._idle_private_links.append(link)

    def _checked_path(self, path: Sequence[int] | NDArray[np.integer]) -> Ints:
        array = np.asarray(path)
        if array.ndim != 1 or array.size == 0:
            raise ValueError(
                f"flow {self._added} has a path of shape {array.shape}; it must be a list of at least one link"
            )
        if array.dtype.kind not in "iu":
            raise ValueError(f"flow {self._added} has link indices of type {array.dtype}; they must be integers")
        links = array.astype(np.int64, copy=False)
        if (at := path_flaw(links, self._links)) >= 0:
            if 0 <= links[at] < self._links:
                raise ValueError(f"flow {self._added} is cyclic: it crosses link {links[at]} twice")
            raise ValueError(f"flow {self._added} crosses link {links[at]}; there are links 0 to {self._links - 1}")
        return links

    def _private_link(self, flow: int, cap_Bps: float) -> int:
        if not self._idle_private_links:
            links = len(self._tables.links)
            self._grow(links=links + max(16, links - self._links))
            self._idle_private_links.extend(range(len(self._tables.links) - 1, links - 1, -1))
        link = self._idle_private_links.pop()
        self._tables.links["capacity_Bps"][link] = cap_Bps
        self._private_link_of[flow] = link
        return link

    def _make_room(self, hops: int) -> None:
        slots, stride = len(self._tables.flows), self._stride
        full = len(self._slot_of) == slots
        if hops > stride or full:
            self._grow(
                slots=2 * slots if full else slots,
                stride=max(2 * stride, hops) if hops > stride else stride,
            )

    def _grow(self, *, links: int = 0, slots: int = 0, stride: int = 0) -> None:
        old = self._tables
        self._stride = stride or self._stride
        self._tables = grown_tables(old, links or len(old.links), slots or len(old.flows), self._stride)
        self._clock = self._tables.state["clock_s"]
        self._ended = _work_space(len(self._tables.flows))


def _work_space(slots: int) -> tuple[Ints, Ints, Floats]:
    """Work space of `advance`."""
    return np.zeros(slots, dtype=np.int64), np.zeros(slots, dtype=np.int64), np.zeros(slots)


def _checked_time(name: str, time_s: float, at_least_s: float) -> float:
    if not (math.isfinite(time_s) and time_s >= at_least_s):
        raise ValueError(f"{name} is {time_s}; it must be finite and at least {at_least_s}")
    return float(time_s)
