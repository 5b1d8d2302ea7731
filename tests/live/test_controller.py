"""The controller on real packets: forwarding, telemetry, loss of a switch, loss of the controller, ECMP spread."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.driver import DRIVERS
from controller.flow_tables import hash_basis
from tests.support.live.in_a_sandbox import in_sandbox
from tests.support.paths import ROOT
from topologies import Fabric, FabricSpec, Level, build_fattree

SCHEMA = json.loads((ROOT / "controller" / "netkv.cost.v1.schema.json").read_text(encoding="utf-8"))
NOTICED_S = 5.0
"""From a cable's end until all switches hold their new rules: measured 0.2 s; the machine may be busy."""
WIRE_OF_PAYLOAD = 1.25
"""Bytes on the wire for one of payload, at most: 4.6 % of headers, and what slow start overshoots and sends again."""

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("live_machine")]


def observe(driver: str, ecmp: str) -> dict[str, Any]:
    """Run the scenario in a sandbox of its own and return what it saw."""
    done = in_sandbox("tests.support.live.controller_probe", driver, ecmp)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module", params=DRIVERS)
def seen(request: pytest.FixtureRequest) -> dict[str, Any]:
    return observe(request.param, "bundle")


@pytest.fixture
def fabric(seen: dict[str, Any]) -> Fabric:
    return build_fattree(FabricSpec(**seen["spec"]))


def test_every_switch_is_programmed_and_every_pair_joined(seen: dict[str, Any], fabric: Fabric) -> None:
    document = seen["document"]
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert document["complete"]
    assert document["switches_programmed"] == document["switches_expected"] == len(fabric.switches)
    assert seen["lost"] == []


def test_no_table_floods_or_calls_the_controller_and_no_packet_reached_it(seen: dict[str, Any]) -> None:
    assert seen["document"]["packet_ins"] == 0
    for rule in (rule for rules in seen["tables"].values() for rule in rules):
        assert not any(word in rule.upper() for word in ("FLOOD", "ALL", "NORMAL", "CONTROLLER", "IN_PORT")), rule


def test_each_switch_holds_its_own_hash(seen: dict[str, Any], fabric: Fabric) -> None:
    for switch in fabric.switches:
        expected = f"bundle(symmetric_l4,{hash_basis(switch.dpid)},hrw,ofport,members:"
        hashed = [rule for rule in seen["tables"][switch.name] if "bundle" in rule]
        assert len(hashed) == (2 if switch.level in (Level.TOR, Level.AGGREGATION) else 0)
        assert all(expected in rule for rule in hashed)


def test_a_transfer_shows_on_exactly_the_links_of_one_of_its_paths(seen: dict[str, Any], fabric: Fabric) -> None:
    carried = [seen["transfer"][link.name] for link in fabric.links]
    loaded = {link.index for link in fabric.links if carried[link.index] > seen["transfer_bytes"] / 2}
    assert loaded in [set(path) for path in fabric.paths(0, 7)]
    for index in loaded:
        assert seen["transfer_bytes"] < carried[index] < WIRE_OF_PAYLOAD * seen["transfer_bytes"]


def test_routes_go_around_a_cut_cable_and_come_back_with_it(seen: dict[str, Any], fabric: Fabric) -> None:
    cut, restored = seen["cable"]["cut"], seen["cable"]["restored"]
    assert set(cut["links_down"]) == {"agg0>core0", "core0>agg0"}
    assert (restored["links_down"], restored["changed"]) == ([], [])
    assert cut["took_s"] < NOTICED_S
    assert restored["took_s"] < NOTICED_S
    assert cut["changed"] == ["agg2"]  # the only switch that would send into the cut without seeing it
    for pod in (0, 1):
        crossed, silent = cut[f"to_pod_{pod}"]
        assert silent == []
        assert crossed["core0"] == 0
        assert all(crossed[core] > 0 for core in ("core1", "core2", "core3"))
        crossed, silent = restored[f"to_pod_{pod}"]
        assert silent == []
        assert all(count > 0 for count in crossed.values())


def test_alto_says_what_is_left_of_every_path(seen: dict[str, Any], fabric: Fabric) -> None:
    """In this fabric a rack has one server, so that the uplinks of its ToR are the least of any path."""
    uplinks_Bps = fabric.spec.tor_uplink_rate_bps * fabric.spec.aggregations_per_pod / 8
    assert list(seen["alto"]) == [f"srv{number}" for number in range(fabric.spec.servers)]
    for source, row in seen["alto"].items():
        for target, left_Bps in row.items():
            if source != target:
                assert 0 <= left_Bps <= uplinks_Bps
    assert seen["alto"]["srv1"]["srv2"] == pytest.approx(uplinks_Bps, rel=0.05)  # nothing was sent there


def test_prometheus_reads_what_the_socket_says(seen: dict[str, Any], fabric: Fabric) -> None:
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(seen["metrics"])
        for sample in family.samples
    }
    after = seen["after_metrics"]["links"]
    for link in fabric.links:
        assert 0 <= samples["netkv_link_utilisation_ratio", link.name] <= 1.05
        assert 0 <= samples["netkv_link_sample_age_seconds", link.name] < 1
        assert samples["netkv_link_capacity_bits_per_second", link.name] == link.capacity_bps
        assert 0 <= after[link.name]["bytes"] - samples["netkv_link_bytes_total", link.name] < 10_000  # idle since
    loaded = max(samples["netkv_link_bytes_total", link.name] for link in fabric.links)
    assert loaded > seen["transfer_bytes"]
    for switch in fabric.switches:
        assert samples["netkv_switch_programmed", switch.name] == 1
        assert 0 < samples["netkv_poll_round_trip_seconds", switch.name] < 1
        assert samples["netkv_polls_total", switch.name] > 10
    assert samples["netkv_polls_missed_total", "core0"] <= seen["after_metrics"]["polls_missed"]
    assert samples[("process_cpu_seconds_total",)] > 0


def test_a_silent_switch_stops_the_sample_time_while_documents_go_on(seen: dict[str, Any]) -> None:
    lost = seen["lost_switch"]
    gone_s, later_s, back_s = lost["sampled_s"]
    assert lost["missing"] == ["core0"]
    assert 0 <= later_s - gone_s < seen["document"]["poll_s"]  # the rest of the sweep in which it fell silent, no more
    assert lost["sequence"][1] > lost["sequence"][0] + 5
    assert back_s > later_s + 1
    assert lost["missing_at_last"] == []


def test_a_killed_controller_answers_nobody_and_the_next_one_restores_every_table(seen: dict[str, Any]) -> None:
    after = seen["restart"]
    assert after["packet_ins"] > 0  # the spoilt table was noticed
    assert not after["killed_answers"]
    assert after["lost_without"] == []  # switches forward without a controller
    assert after["tables"] == seen["tables"]


def test_a_stopped_controller_leaves_no_socket(seen: dict[str, Any]) -> None:
    assert (seen["exit_code"], seen["socket_left"]) == (0, False)


def test_own_hashes_spread_connections_evenly_over_the_cores(seen: dict[str, Any]) -> None:
    fair = sum(seen["spread"].values()) / len(seen["spread"])
    assert all(0.75 * fair < crossed < 1.25 * fair for crossed in seen["spread"].values())


def test_one_hash_on_every_level_polarises_and_leaves_cores_idle() -> None:
    spread = observe("ryu", "select")["spread"]
    assert sum(crossed == 0 for crossed in spread.values()) >= len(spread) / 2
