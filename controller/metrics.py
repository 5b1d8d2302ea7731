"""The Prometheus endpoint: metrics of links and polls, computed at each scrape.

prometheus_client writes the exposition format and the HTTP answer; this module defines the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from controller.counters import LinkCounters
from controller.polls import PollStatistics
from topologies import Fabric


class FabricMetrics:
    """A prometheus_client collector. `now_s()` is the clock of the samples; `programmed` holds datapath ids."""

    def __init__(
        self,
        fabric: Fabric,
        counters: LinkCounters,
        polls: PollStatistics,
        programmed: set[int],
        now_s: Callable[[], float],
    ) -> None:
        self._fabric = fabric
        self._counters = counters
        self._polls = polls
        self._programmed = programmed
        self._now_s = now_s

    def collect(self) -> Iterator[Metric]:
        """Metrics of links, labelled `source>target`, and of switches, by name. An unmeasured link has no sample."""
        yield from self._links()
        yield from self._switches()

    def _links(self) -> Iterator[Metric]:
        utilisation = GaugeMetricFamily(
            "netkv_link_utilisation_ratio",
            "Share of a link's capacity used during the last poll interval.",
            labels=["link"],
        )
        age = GaugeMetricFamily(
            "netkv_link_sample_age_seconds", "Time since the sample was requested from the switch.", labels=["link"]
        )
        carried = CounterMetricFamily(
            "netkv_link_bytes", "Emulated bytes carried since this controller first read the counter.", labels=["link"]
        )
        capacity = GaugeMetricFamily(
            "netkv_link_capacity_bits_per_second", "Capacity of a link in the real system.", labels=["link"]
        )
        now_s = self._now_s()
        for link, state in zip(self._fabric.links, self._counters.links, strict=True):
            carried.add_metric([link.name], state.carried_bytes)
            capacity.add_metric([link.name], link.capacity_bps)
            if state.utilisation is not None and state.sampled_s is not None:
                utilisation.add_metric([link.name], state.utilisation)
                age.add_metric([link.name], now_s - state.sampled_s)
        yield from (utilisation, age, carried, capacity)

    def _switches(self) -> Iterator[Metric]:
        programmed = GaugeMetricFamily(
            "netkv_switch_programmed",
            "1 while a switch is connected and all its rules are in force.",
            labels=["switch"],
        )
        round_trip = GaugeMetricFamily(
            "netkv_poll_round_trip_seconds", "From the last request for counters to its reply.", labels=["switch"]
        )
        answered = CounterMetricFamily("netkv_polls", "Requests for counters that were answered.", labels=["switch"])
        missed = CounterMetricFamily(
            "netkv_polls_missed",
            "Polls that skipped a switch: not connected, or the previous request was unanswered.",
            labels=["switch"],
        )
        for switch in self._fabric.switches:
            polls = self._polls.switches[switch.dpid]
            programmed.add_metric([switch.name], switch.dpid in self._programmed)
            answered.add_metric([switch.name], polls.answered)
            missed.add_metric([switch.name], polls.missed)
            if polls.round_trip_s is not None:
                round_trip.add_metric([switch.name], polls.round_trip_s)
        yield from (programmed, round_trip, answered, missed)


def metrics_page(metrics: FabricMetrics) -> Any:
    """The WSGI application that answers a scrape: metrics of the fabric, and the controller's own CPU and memory."""
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    return make_wsgi_app(registry)
