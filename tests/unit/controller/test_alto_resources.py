"""Directory, maps, endpoint services and path vectors, against what RFC 7285, 9439 and 9275 demand.

Requests are those of the RFCs' own examples, with their addresses or with ours.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from email.parser import BytesParser
from typing import Any

import numpy as np
import pytest

from controller.alto.alto_query import AltoError, parse_body
from controller.alto.alto_resources import AltoResources
from controller.alto.alto_types import AltoRequest, Answer, NoSnapshotError
from controller.alto.fabric_costs import AltoSnapshot
from controller.alto.path_vectors import multipart
from topologies import FabricSpec, build_fattree

FABRIC = build_fattree(FabricSpec())
ALTO = AltoResources(FABRIC)
UTILISATION = np.linspace(0, 1, len(FABRIC.links))
SNAPSHOT = AltoSnapshot(1_700_000_000.0, UTILISATION)
BW = {"cost-mode": "numerical", "cost-metric": "bw-available"}
ORDINAL = {"cost-mode": "ordinal", "cost-metric": "routingcost"}
PATHS = {"cost-mode": "array", "cost-metric": "ane-path"}


def ask(resource_id: str, given: Mapping[str, Any] | None = None, client: str = "ipv4:127.0.0.1") -> Answer:
    answer = ALTO.by_id[resource_id].answer
    assert answer is not None
    return answer(AltoRequest(given or {}, client, SNAPSHOT))


def one(resource_id: str, given: Mapping[str, Any] | None = None, client: str = "ipv4:127.0.0.1") -> dict[str, Any]:
    (part,) = ask(resource_id, given, client)
    assert part.media_type == ALTO.by_id[resource_id].media_type
    return part.document


def error(resource_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    with pytest.raises(AltoError) as raised:
        ask(resource_id, given)
    meta: dict[str, Any] = raised.value.document()["meta"]
    return meta


# --- the directory (RFC 7285, 9.2)


def test_every_name_in_the_directory_stands_for_something_in_it() -> None:
    resources, types = ALTO.directory["resources"], ALTO.directory["meta"]["cost-types"]
    assert ALTO.directory["meta"]["default-alto-network-map"] in resources
    for name, entry in resources.items():
        assert re.fullmatch(r"[A-Za-z0-9:@_-]{1,64}", name)
        assert set(entry.get("uses", ())) <= set(resources)
        assert set(entry.get("capabilities", {}).get("cost-type-names", ())) <= set(types)
        assert entry["uri"].startswith("/")
    assert len({entry["uri"] for entry in resources.values()}) == len(resources)


def test_a_cost_map_that_is_read_whole_has_one_cost_type_and_no_other_map_has_it() -> None:
    whole = [
        entry["capabilities"]["cost-type-names"]
        for entry in ALTO.directory["resources"].values()
        if entry["media-type"] == "application/alto-costmap+json" and "accepts" not in entry
    ]
    assert all(len(names) == 1 for names in whole)
    names = [name for (name,) in whole]
    assert len(set(names)) == len(names)
    assert "num-routingcost" in names  # RFC 7285, 11.2.3


def test_the_endpoint_cost_service_names_no_map_and_the_closure_has_the_pid_of_an_address() -> None:
    resources = ALTO.directory["resources"]
    assert "uses" not in resources["endpointcost"]
    assert resources["endpointprop"]["capabilities"] == {"prop-types": ["networkmap.pid"]}


def test_path_vectors_have_their_own_resources_without_constraints() -> None:
    for name, root in (("costmap-pv", "costmap"), ("endpointcost-pv", "endpointcost")):
        entry = ALTO.directory["resources"][name]
        assert entry["media-type"] == f"multipart/related;type=application/alto-{root}+json"
        assert entry["capabilities"]["cost-type-names"] == ["path-vector"]
        assert "cost-constraints" not in entry["capabilities"]
    assert ALTO.directory["meta"]["cost-types"]["path-vector"] == PATHS


def test_every_metric_is_registered_and_says_where_it_comes_from() -> None:
    """IANA's registry of cost metrics and of cost sources; `routingcost` must be an estimation (RFC 9439, 6.3)."""
    registered = {"routingcost", "hopcount", "delay-ow", "tput", "bw-residual", "bw-available"}
    types = {name: kind for name, kind in ALTO.directory["meta"]["cost-types"].items() if name != "path-vector"}
    assert {kind["cost-metric"] for kind in types.values()} == registered
    sources = {kind["cost-metric"]: kind["cost-context"]["cost-source"] for kind in types.values()}
    assert set(sources.values()) <= {"nominal", "sla", "estimation"}
    assert sources["routingcost"] == "estimation"


# --- maps (RFC 7285, 11.2 and 11.3)


def test_the_network_map_is_complete_and_no_prefix_is_in_it_twice() -> None:
    found = one("networkmap")
    prefixes = [prefix for group in found["network-map"].values() for prefix in group["ipv4"]]
    assert len(set(prefixes)) == len(prefixes)
    assert "0.0.0.0/0" in prefixes
    assert set(found["meta"]["vtag"]) == {"resource-id", "tag"}
    assert re.fullmatch(r"[\x21-\x7e]{1,64}", found["meta"]["vtag"]["tag"])


def test_the_longest_prefix_of_an_instance_is_that_of_its_server() -> None:
    networks = {
        ipaddress.IPv4Network(prefix): pid
        for pid, group in one("networkmap")["network-map"].items()
        for prefix in group["ipv4"]
    }
    for number, address in enumerate(ALTO.costs.addresses):
        inside = [network for network in networks if ipaddress.IPv4Address(address) in network]
        longest = max(inside, key=lambda network: network.prefixlen)
        assert networks[longest] == f"srv{number // 2}"


def test_the_tag_is_the_same_for_the_same_map_and_another_for_another() -> None:
    again, other = (AltoResources(build_fattree(FabricSpec(pods=pods))) for pods in (2, 3))
    assert again.vtag == ALTO.vtag
    assert other.vtag != ALTO.vtag


def test_a_filtered_network_map_has_the_tag_of_the_whole_one() -> None:
    """Unknown PIDs and address types are passed over, repeated ones count once (RFC 7285, 11.3.1.6)."""
    found = one("networkmap-filtered", {"pids": ["srv1", "PID9", "srv1"], "address-types": ["ipv4", "ipv6"]})
    assert found["network-map"] == {"srv1": {"ipv4": ["10.0.0.16/28"]}}
    assert found["meta"]["vtag"] == ALTO.vtag
    assert one("networkmap-filtered", {"pids": []})["network-map"] == one("networkmap")["network-map"]
    assert one("networkmap-filtered", {"pids": ["srv1"], "address-types": ["ipv6"]})["network-map"] == {"srv1": {}}


def test_a_cost_map_names_the_network_map_and_its_cost_type() -> None:
    found = one("costmap-bw-available")
    assert found["meta"]["dependent-vtags"] == [ALTO.vtag]
    assert found["meta"]["cost-type"].items() >= BW.items()
    assert set(found["cost-map"]) == {f"srv{n}" for n in range(8)}  # outside: no cost is known
    assert all(set(row) == set(found["cost-map"]) for row in found["cost-map"].values())


def test_a_filtered_cost_map_is_the_part_that_was_asked_for() -> None:
    whole = one("costmap-bw-available")["cost-map"]
    found = one(
        "costmap-filtered", {"cost-type": BW, "pids": {"srcs": ["srv0", "srv0", "PID1"], "dsts": ["srv4", "srv5"]}}
    )
    assert found["cost-map"] == {"srv0": {name: whole["srv0"][name] for name in ("srv4", "srv5")}}
    assert one("costmap-filtered", {"cost-type": BW})["cost-map"] == whole
    assert one("costmap-filtered", {"cost-type": BW, "pids": {"srcs": [], "dsts": []}})["cost-map"] == whole


def test_constraints_are_all_to_be_met() -> None:
    whole = one("costmap-bw-available")["cost-map"]
    found = one("costmap-filtered", {"cost-type": BW, "constraints": ["ge 1e9", "lt 9000000000"]})["cost-map"]
    kept = {
        source: {target: cost for target, cost in row.items() if 1e9 <= cost < 9e9} for source, row in whole.items()
    }
    assert found == {source: row for source, row in kept.items() if row}
    assert found


def test_ordinal_costs_are_ranks_among_what_was_asked_for() -> None:
    numbers = one("costmap-routingcost")["cost-map"]["srv0"]
    wanted = ["srv1", "srv3", "srv7"]
    found = one("costmap-filtered", {"cost-type": ORDINAL, "pids": {"srcs": ["srv0"], "dsts": wanted}})["cost-map"]
    assert sorted(found["srv0"].values()) == [1, 2, 3]
    assert sorted(wanted, key=found["srv0"].get) == sorted(wanted, key=numbers.get)


# --- endpoints (RFC 7285, 11.4 and 11.5; RFC 9439)


def test_the_pid_of_an_address() -> None:
    endpoints = ["ipv4:10.0.0.2", "ipv4:192.0.2.34", "ipv6:2001:db8::1"]
    found = one("endpointprop", {"properties": ["networkmap.pid"], "endpoints": endpoints})
    assert found["meta"]["dependent-vtags"] == [ALTO.vtag]
    assert found["endpoint-properties"] == {
        "ipv4:10.0.0.2": {"networkmap.pid": "srv0"},
        "ipv4:192.0.2.34": {"networkmap.pid": "outside"},
        "ipv6:2001:db8::1": {},
    }


@pytest.mark.parametrize("metric", ["routingcost", "hopcount", "delay-ow", "tput", "bw-residual", "bw-available"])
def test_the_examples_of_the_rfc_are_understood_and_of_their_addresses_nothing_is_known(metric: str) -> None:
    """RFC 9439, examples 1, 4, 5, 7 and 8; RFC 7285, 11.5.1.7 with three destinations."""
    given = {
        "cost-type": {"cost-mode": "numerical", "cost-metric": metric},
        "endpoints": {"srcs": ["ipv4:192.0.2.2"], "dsts": ["ipv4:192.0.2.89", "ipv4:198.51.100.34"]},
    }
    found = one("endpointcost", given)
    assert set(found) == {"meta", "endpoint-cost-map"}
    assert found["meta"]["cost-type"].items() >= given["cost-type"].items()
    assert found["endpoint-cost-map"] == {}


def test_costs_between_endpoints_of_the_fabric_and_none_to_oneself() -> None:
    given = {
        "cost-type": {"cost-mode": "numerical", "cost-metric": "hopcount"},
        "endpoints": {"srcs": ["ipv4:10.0.0.1"], "dsts": [f"ipv4:{address}" for address in ALTO.costs.addresses]},
    }
    found = one("endpointcost", given)["endpoint-cost-map"]["ipv4:10.0.0.1"]
    assert len(found) == 15
    assert (found["ipv4:10.0.0.2"], found["ipv4:10.0.0.17"], found["ipv4:10.1.1.18"]) == (2, 4, 8)


def test_an_empty_list_of_endpoints_stands_for_the_client() -> None:
    given = {"cost-type": BW, "endpoints": {"dsts": ["ipv4:10.1.0.1"]}}
    assert set(one("endpointcost", given, "ipv4:10.0.0.1")["endpoint-cost-map"]) == {"ipv4:10.0.0.1"}
    assert one("endpointcost", given)["endpoint-cost-map"] == {}  # the loopback is none of the fabric's


# --- errors (RFC 7285, 8.5.2)


@pytest.mark.parametrize(
    ("resource", "given", "code", "place", "value"),
    [
        ("costmap-filtered", {}, "E_MISSING_FIELD", "cost-type", None),
        ("costmap-filtered", {"cost-type": {"cost-mode": "ordinal"}}, "E_MISSING_FIELD", "cost-type/cost-metric", None),
        ("costmap-filtered", {"cost-type": "ordinal"}, "E_INVALID_FIELD_TYPE", "cost-type", None),
        ("costmap-filtered", {"cost-type": BW, "pids": ["srv0"]}, "E_INVALID_FIELD_TYPE", "pids", None),
        ("costmap-filtered", {"cost-type": BW, "pids": {"srcs": []}}, "E_MISSING_FIELD", "pids/dsts", None),
        (
            *("costmap-filtered", {"cost-type": {**BW, "cost-mode": "foo"}}),
            *("E_INVALID_FIELD_VALUE", "cost-type/cost-mode", "foo"),
        ),
        (
            *("costmap-filtered", {"cost-type": {**BW, "cost-metric": "delay-rt"}}),
            *("E_INVALID_FIELD_VALUE", "cost-type/cost-metric", "delay-rt"),
        ),
        (
            *("costmap-filtered", {"cost-type": BW, "pids": {"srcs": ["srv0", 7], "dsts": []}}),
            *("E_INVALID_FIELD_VALUE", "pids/srcs", "7"),  # an element of the wrong type is a wrong value
        ),
        (
            *("costmap-filtered", {"cost-type": BW, "constraints": ["near 5"]}),
            *("E_INVALID_FIELD_VALUE", "constraints", "near 5"),
        ),
        ("networkmap-filtered", {}, "E_MISSING_FIELD", "pids", None),
        ("networkmap-filtered", {"pids": {}}, "E_INVALID_FIELD_TYPE", "pids", None),
        ("endpointcost", {"cost-type": BW}, "E_MISSING_FIELD", "endpoints", None),
        ("endpointcost", {"cost-type": BW, "endpoints": {}}, "E_INVALID_FIELD_VALUE", "endpoints", "{}"),
        (
            *("endpointcost", {"cost-type": BW, "endpoints": {"srcs": ["10.0.0.1"], "dsts": []}}),
            *("E_INVALID_FIELD_VALUE", "endpoints/srcs", "10.0.0.1"),
        ),
        (
            *("endpointcost", {"cost-type": BW, "endpoints": {"srcs": [], "dsts": ["ipv4:10.0.0.999"]}}),
            *("E_INVALID_FIELD_VALUE", "endpoints/dsts", "ipv4:10.0.0.999"),
        ),
        ("endpointprop", {"endpoints": ["ipv4:10.0.0.1"]}, "E_MISSING_FIELD", "properties", None),
        (
            *("endpointprop", {"properties": ["priv:x"], "endpoints": ["ipv4:10.0.0.1"]}),
            *("E_INVALID_FIELD_VALUE", "properties", "priv:x"),
        ),
        ("costmap-pv", {"cost-type": BW}, "E_INVALID_FIELD_VALUE", "cost-type/cost-metric", "bw-available"),
        (
            *("costmap-pv", {"cost-type": PATHS, "constraints": ["le 1"]}),
            *("E_INVALID_FIELD_VALUE", "constraints", "le 1"),
        ),
        (
            *("costmap-pv", {"cost-type": PATHS, "ane-property-names": ["persistent-entity-id"]}),
            *("E_INVALID_FIELD_VALUE", "ane-property-names", "persistent-entity-id"),
        ),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    resource: str, given: dict[str, Any], code: str, place: str, value: str | None
) -> None:
    expected = {"code": code, "field": place} | ({"value": value} if value is not None else {})
    assert error(resource, given) == expected


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"a": NaN}', b"[" * 100_000, b"9" * 10_000])
def test_a_body_that_is_no_object_is_a_syntax_error(body: bytes) -> None:
    with pytest.raises(AltoError) as raised:
        parse_body(body)
    meta = raised.value.document()["meta"]
    assert meta["code"] == "E_SYNTAX"
    assert meta["syntax-error"]


def test_fields_that_nobody_knows_are_ignored() -> None:
    given = {"cost-type": {**BW, "description": "mine", "x": 1}, "pids": {"srcs": ["srv0"], "dsts": ["srv1"], "y": []}}
    assert set(one("costmap-filtered", {**given, "z": None})["cost-map"]) == {"srv0"}


def test_before_the_first_snapshot_only_what_needs_none_is_answered() -> None:
    for resource, needs in (("costmap-bw-available", True), ("costmap-delay-ow", False), ("networkmap", False)):
        answer = ALTO.by_id[resource].answer
        assert answer is not None
        if needs:
            with pytest.raises(NoSnapshotError):
                answer(AltoRequest({}))
        else:
            assert answer(AltoRequest({}))


# --- path vectors (RFC 9275)


def path_vectors(resource_id: str, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Both parts of a multipart answer as another program reads them, and the raw body."""
    kind, body = multipart(ask(resource_id, given), "example-1")
    message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    assert message.get_content_type() == "multipart/related"
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert [part.get_content_type() for part in parts] == [  # type: ignore[union-attr]
        message.get_param("type"),
        "application/alto-propmap+json",
    ]
    assert all(re.fullmatch(r"<[A-Za-z0-9-]+@localhost>", part["Content-ID"]) for part in parts)  # type: ignore[index]
    vectors, properties = (json.loads(part.get_payload()) for part in parts)  # type: ignore[union-attr, arg-type]
    tag = vectors["meta"]["vtag"]
    assert tag["resource-id"] == f"{resource_id}.{parts[0]['Content-ID'][1:].partition('@')[0]}"  # type: ignore[index]
    assert tag in properties["meta"]["dependent-vtags"]
    assert vectors["meta"]["cost-type"] == PATHS
    return vectors, properties, body


def test_paths_between_servers_with_the_network_map_that_names_them() -> None:
    vectors, properties, _ = path_vectors(
        "costmap-pv", {"cost-type": PATHS, "pids": {"srcs": ["srv0", "srv1"], "dsts": ["srv4"]}}
    )
    assert vectors["meta"]["dependent-vtags"] == [ALTO.vtag]
    assert vectors["cost-map"] == {
        "srv0": {"srv4": ["srv0-up", "tor0-up", "pod0-up", "pod1-down", "tor2-down", "srv4-down"]},
        "srv1": {"srv4": ["srv1-up", "tor0-up", "pod0-up", "pod1-down", "tor2-down", "srv4-down"]},
    }
    assert properties["property-map"] == {}  # no property was asked for


def test_two_paths_share_the_elements_that_both_name_and_their_bandwidth_is_in_the_property_map() -> None:
    asked = ["max-reservable-bandwidth", "priv:netkv-available-bandwidth"]
    endpoints = {"srcs": ["ipv4:10.0.0.1", "ipv4:10.0.0.17"], "dsts": ["ipv4:10.1.0.1"]}
    vectors, properties, _ = path_vectors(
        "endpointcost-pv", {"cost-type": PATHS, "endpoints": endpoints, "ane-property-names": asked}
    )
    paths = [row["ipv4:10.1.0.1"] for row in vectors["endpoint-cost-map"].values()]
    shared = set(paths[0]) & set(paths[1])
    assert shared == {"tor0-up", "pod0-up", "pod1-down", "tor2-down", "srv4-down", "h8-down"}
    assert set(properties["property-map"]) == {f".ane:{element}" for path in paths for element in path}
    assert properties["property-map"][".ane:tor0-up"]["max-reservable-bandwidth"] == 200e9  # bit/s
    for path, source in zip(paths, (0, 2), strict=True):
        least = min(properties["property-map"][f".ane:{element}"][asked[1]] for element in path)
        given = {
            "cost-type": BW,
            "endpoints": {"srcs": [f"ipv4:{ALTO.costs.addresses[source]}"], "dsts": endpoints["dsts"]},
        }
        (row,) = one("endpointcost", given)["endpoint-cost-map"].values()
        assert row["ipv4:10.1.0.1"] == pytest.approx(least / 8, rel=1e-5)


def test_an_elements_name_is_one_that_the_rfc_allows() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9:@_-]{1,64}", name) for name in ALTO.costs.elements)


def test_the_tag_of_a_path_vector_changes_with_the_paths_and_not_with_the_load() -> None:
    def tag(utilisation: float) -> dict[str, str]:
        answer = ALTO.by_id["costmap-pv"].answer
        assert answer is not None
        snapshot = AltoSnapshot(1.0, np.full(len(FABRIC.links), utilisation))
        given = {"cost-type": PATHS, "ane-property-names": ["priv:netkv-available-bandwidth"]}
        found: dict[str, str] = answer(AltoRequest(given, "", snapshot))[0].document["meta"]["vtag"]
        return found

    assert tag(0.1) == tag(0.9)
