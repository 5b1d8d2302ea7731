"""The Prometheus text endpoint: what is known of links and polls, written when somebody scrapes it.

The exposition format and the HTTP answer are prometheus_client's; here is which numbers there are and what they mean.
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
    """A collector of prometheus_client. `now_s()` is the clock of the samples; `programmed` holds datapath ids."""

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
        """Links by `source>target`, switches by name. What has never been measured has no sample."""
        yield from self._links()
        yield from self._switches()

    def _links(self) -> Iterator[Metric]:
        utilisation = GaugeMetricFamily(
            "netkv_link_utilisation_ratio", "Part of a link's capacity carried over the last poll.", labels=["link"]
        )
        age = GaugeMetricFamily(
            "netkv_link_sample_age_seconds", "Time since the sample was asked of the switch.", labels=["link"]
        )
        carried = CounterMetricFamily(
            "netkv_link_bytes", "Emulated bytes carried since this controller first read the counter.", labels=["link"]
        )
        capacity = GaugeMetricFamily(
            "netkv_link_capacity_bits_per_second", "The real system's capacity of a link.", labels=["link"]
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
            "1 while a switch is connected with all its rules in force.",
            labels=["switch"],
        )
        round_trip = GaugeMetricFamily(
            "netkv_poll_round_trip_seconds", "From the last request for counters to its reply.", labels=["switch"]
        )
        answered = CounterMetricFamily("netkv_polls", "Requests for counters that were answered.", labels=["switch"])
        missed = CounterMetricFamily(
            "netkv_polls_missed",
            "Sweeps that skipped a switch: gone, or no answer yet to the request before.",
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
    """The WSGI application that answers a scrape: the fabric's numbers, and the controller's own CPU and memory."""
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    return make_wsgi_app(registry)
