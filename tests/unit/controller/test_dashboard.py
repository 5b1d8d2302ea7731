"""The Prometheus page, scraped without a switch, and the Grafana dashboard that reads it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from controller.counters import LinkCounters, PortCounters
from controller.metrics import FabricMetrics, metrics_page
from controller.polls import PollStatistics
from tests.support.paths import ROOT
from topologies import FabricSpec, build_fattree

DASHBOARD = ROOT / "examples" / "grafana-dashboard.json"
METRIC = re.compile(r"\b(?:netkv|process|python)_[a-z_]+\b")


@pytest.fixture(scope="module")
def page() -> str:
    """A scrape of a fabric whose links have been measured and whose switches have answered."""
    fabric = build_fattree(FabricSpec(pods=1))
    counters = LinkCounters(fabric, rate_scale=5000.0, poll_s=0.1)
    polls = PollStatistics(switch.dpid for switch in fabric.switches)
    for second in (0.0, 0.1, 0.2):
        for switch in fabric.switches:
            ports = [PortCounters(port, 1000, 1000, second) for port in range(1, 20)]
            counters.record(switch.dpid, ports, requested_s=second, arrived_s=second)
            polls.answered(switch.dpid, 0.002)
    metrics = FabricMetrics(fabric, counters, polls, {switch.dpid for switch in fabric.switches}, lambda: 0.3)
    answer = metrics_page(metrics)({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""}, _ignored)
    return b"".join(answer).decode()


def _ignored(status: str, headers: list[tuple[str, str]]) -> None:
    assert status == "200 OK"


def queries(node: Any) -> list[str]:
    """Every query of a dashboard: `expr` of a panel's target, `query` of a variable."""
    if isinstance(node, list):
        return [found for one in node for found in queries(one)]
    if not isinstance(node, dict):
        return []
    here = [node[name] for name in ("expr", "query") if isinstance(node.get(name), str)]
    return here + [found for one in node.values() for found in queries(one)]


def test_every_metric_of_the_dashboard_is_on_the_page(page: str) -> None:
    asked = {name for query in queries(json.loads(DASHBOARD.read_text())) for name in METRIC.findall(query)}
    exposed = {line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if not line.startswith("#")}
    assert len(asked) > 8
    assert sorted(asked - exposed) == []
    assert sorted(name for name in exposed if name.startswith("netkv_") and not name.endswith("_created")) == sorted(
        name for name in asked if name.startswith("netkv_")
    )


def test_panels_lie_side_by_side_within_the_24_columns_of_the_grid() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels)
