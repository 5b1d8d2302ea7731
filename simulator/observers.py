"""The readers of the simulated network: the scheduler's oracle client, the log of the links, and who watches a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scenario import Scenario
from scheduler import Dispatcher, NetworkSample
from serving import Lifecycle, LifeWatch, Watch
from simulator.errors import SimulationError
from simulator.event_queue import EventQueue, Kind
from simulator.polled_counters import PolledCounters
from simulator.simulation import SimulationSpec
from simulator.transport import Transport
from topologies import Fabric

MOST_LOOKS = 5_000_000
"""More refreshes or polls than this in one run are a wrong unit: at 20 us each they take minutes."""


class Observers:
    """Refreshes the scheduler's telemetry snapshot every `refresh_s`; logs a row for each link every `link_sample_s`.

    The oracle's source: `counters` reads polls, `exact` the rates of the very instant, `static` gives no snapshot.
    """

    def __init__(
        self,
        scenario: Scenario,
        simulation: SimulationSpec,
        fabric: Fabric,
        transport: Transport,
        dispatcher: Dispatcher,
        event_queue: EventQueue,
        last_arrival_s: float,
    ) -> None:
        oracle = scenario.oracle
        if last_arrival_s / min(oracle.refresh_s, oracle.poll_s) > MOST_LOOKS:
            raise SimulationError(
                f"oracle: a refresh every {oracle.refresh_s:g} s and a poll every {oracle.poll_s:g} s over "
                f"{last_arrival_s:g} s are more than {MOST_LOOKS} looks"
            )
        self._source = oracle.source
        self._first_snapshot_s = scenario.first_snapshot_s
        self._transport = transport
        self._dispatcher = dispatcher
        self._event_queue = event_queue
        self._names = [link.name for link in fabric.links]
        self._capacity_Bps = np.array([link.capacity_bps / 8 for link in fabric.links])
        phase_s = float(scenario.rng("polls").uniform(0, oracle.poll_s))
        self._oracle = PolledCounters(self._capacity_Bps, oracle.poll_s, phase_s, -scenario.lead_s)
        self._log = PolledCounters(self._capacity_Bps, oracle.poll_s, phase_s, -scenario.lead_s)
        fewest_s = last_arrival_s * len(fabric.links) / simulation.most_link_rows
        self.link_sample_s = simulation.link_sample_s
        if fewest_s > self.link_sample_s:
            self.link_sample_s = float(math.ceil(fewest_s))
        self.rows: list[dict[str, Any]] = []

    def book_first(self) -> None:
        """Book the first refresh and the first rows."""
        if self._source != "static":
            self._expect(self._oracle, Kind.REFRESH, self._first_snapshot_s)
        self._expect(self._log, Kind.LINK_ROWS, self.link_sample_s)

    def poll(self, number: int) -> None:
        """Read the byte counters for poll `number`."""
        carried_B = self._transport.link_carried_B()
        self._oracle.record(number, carried_B)
        self._log.record(number, carried_B)

    def refresh(self, now_s: float) -> None:
        """Offer the scheduler the oracle's snapshot of this moment, and book the next refresh."""
        if self._source == "exact":
            sample = NetworkSample(now_s, np.clip(self._transport.link_rate_Bps() / self._capacity_Bps, 0.0, 1.0))
        else:
            sample = self._oracle.sample()
        if avoided := self._transport.avoided:
            sample.utilisation[list(avoided)] = 1.0  # as the oracle's readers do with `links_down`
        self._dispatcher.offer_sample(sample, now_s)
        self._expect(self._oracle, Kind.REFRESH, self._dispatcher.oracle.next_due_s())

    def write_rows(self, now_s: float) -> None:
        """Add a row for each link, from the last whole poll interval, and book the next rows."""
        sample = self._log.sample()
        readings = zip(self._names, sample.utilisation.tolist(), self._log.carried_B.tolist(), strict=True)
        self.rows += [
            {"time_s": sample.sampled_s, "link": name, "utilisation": utilisation, "bytes": round(carried_B)}
            for name, utilisation, carried_B in readings
        ]
        self._expect(self._log, Kind.LINK_ROWS, now_s + self.link_sample_s)

    def _expect(self, counters: PolledCounters, kind: Kind, look_s: float) -> None:
        if math.isinf(look_s):
            return  # the only sample is taken
        if kind is not Kind.REFRESH or self._source == "counters":
            for number, at_s in counters.expect(look_s):
                self._event_queue.book(at_s, Kind.POLL, number)
        self._event_queue.book(look_s, kind, 0)


class Onlooker:
    """Shows a run to whoever watches it, from t = 0 on. It books no event: a run is the same with and without it."""

    def __init__(self, watch: Watch, fabric: Fabric, transport: Transport, life: Lifecycle, start_s: float) -> None:
        """start_s: when the transport's clock begins."""
        self._watch = watch
        self._transport = transport
        self._life_watch = LifeWatch(life)
        self._names = [link.name for link in fabric.links]
        self._capacity_Bps = np.array([link.capacity_bps / 8 for link in fabric.links])
        self._carried_B = np.zeros(len(self._names))
        self._since_s = start_s
        self._next_s = 0.0

    def look_before(self, event_s: float) -> None:
        """Make every look that is due before the next event."""
        while self._next_s < event_s < math.inf:
            carried_B = self._transport.foreseen_B(self._next_s)
            share = (carried_B - self._carried_B) / ((self._next_s - self._since_s) * self._capacity_Bps)
            utilisation = dict(zip(self._names, np.clip(share, 0.0, 1.0).tolist(), strict=True))
            self._watch.on_look(self._life_watch.look(self._next_s, utilisation))
            self._carried_B, self._since_s = carried_B, self._next_s
            self._next_s += self._watch.every_s
