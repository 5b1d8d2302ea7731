"""Our answers beside the RFCs' own examples: the same members at the same places, with values of the same types.

Of each example the members of one entry are kept. Where a member's name is data (a PID, an address, an element, a
resource) any name will do.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from controller.alto.alto_query import AltoError
from controller.alto.alto_resources import AltoResources
from controller.alto.alto_types import AltoRequest
from controller.alto.fabric_costs import AltoSnapshot
from controller.alto.update_stream import UpdateStream
from topologies import FabricSpec, build_fattree

FABRIC = build_fattree(FabricSpec())
ALTO = AltoResources(FABRIC)
SNAPSHOT = AltoSnapshot(1_700_000_000.0, np.full(len(FABRIC.links), 0.5))

NAMED_BY_DATA = (
    *("network-map", "cost-map", "cost-map/*", "endpoint-cost-map", "endpoint-cost-map/*", "endpoint-properties"),
    *("property-map", "resources", "meta/cost-types"),
)
VTAG = {"resource-id": "my-default-network-map", "tag": "da65eca2eb7a10ce8b059740b0b2e3f8eb1d4785"}
ROUTING = {"cost-mode": "numerical", "cost-metric": "routingcost"}
ANE_PATH = {"cost-mode": "array", "cost-metric": "ane-path"}
PIDS = {"srcs": ["srv0"], "dsts": ["srv1", "srv4"]}
ADDRESSES = {"srcs": ["ipv4:10.0.0.1"], "dsts": ["ipv4:10.1.0.1", "ipv4:10.0.0.17"]}
BANDWIDTH = "max-reservable-bandwidth"

NETWORK_MAP = {"meta": {"vtag": VTAG}, "network-map": {"PID1": {"ipv4": ["192.0.2.0/24", "198.51.100.0/25"]}}}
COST_MAP = {"meta": {"dependent-vtags": [VTAG], "cost-type": ROUTING}, "cost-map": {"PID1": {"PID1": 1, "PID2": 5}}}
ENDPOINT_COST = {"meta": {"cost-type": ROUTING}, "endpoint-cost-map": {"ipv4:192.0.2.2": {"ipv4:192.0.2.89": 1}}}
PROPERTIES = {
    "meta": {"dependent-vtags": [VTAG]},
    "endpoint-properties": {"ipv4:192.0.2.34": {"networkmap.pid": "PID1"}},
}
PV_MAP = {
    "meta": {"vtag": VTAG, "dependent-vtags": [VTAG], "cost-type": ANE_PATH},
    "cost-map": {"PID1": {"PID2": ["NET1", "L1", "NET2"]}},
}
PV_ENDPOINTS = {
    "meta": {"vtag": VTAG, "cost-type": ANE_PATH},
    "endpoint-cost-map": {"ipv4:192.0.2.34": {"ipv4:192.0.2.2": ["NET1", "L1"]}},
}
ELEMENTS = {"meta": {"dependent-vtags": [VTAG]}, "property-map": {".ane:NET1": {BANDWIDTH: 50000000000}}}


def shape(document: Any, place: str = "") -> set[tuple[str, str]]:
    """Every place of a document, with the kind of value there: object, array, string, number or boolean."""
    if isinstance(document, dict):
        found = {(place, "object")}
        for name, value in document.items():
            here = "*" if place in NAMED_BY_DATA else name
            found |= shape(value, f"{place}/{here}".lstrip("/"))
        return found
    if isinstance(document, list):
        return {(place, "array")}.union(*(shape(value, f"{place}[]") for value in document))
    kinds = {str: "string", bool: "boolean", int: "number", float: "number"}
    return {(place, kinds[type(document)])}


def answer(resource_id: str, given: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    answered = ALTO.by_id[resource_id].answer
    assert answered is not None
    return [
        json.loads(json.dumps(part.document)) for part in answered(AltoRequest(given or {}, "ipv4:10.0.0.1", SNAPSHOT))
    ]


def without_context(found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """RFC 9439: a cost type may say where its values come from; the examples of RFC 7285 are older."""
    return {one for one in found if not one[0].startswith("meta/cost-type/cost-context")}


@pytest.mark.parametrize(
    ("resource_id", "given", "examples"),
    [
        pytest.param("networkmap", None, [NETWORK_MAP], id="RFC 7285, 11.2.1.7"),
        pytest.param("costmap-routingcost", None, [COST_MAP], id="RFC 7285, 11.2.3.7"),
        pytest.param("networkmap-filtered", {"pids": ["srv0", "srv1"]}, [NETWORK_MAP], id="RFC 7285, 11.3.1.7"),
        pytest.param("costmap-filtered", {"cost-type": ROUTING, "pids": PIDS}, [COST_MAP], id="RFC 7285, 11.3.2.7"),
        pytest.param(
            *("endpointprop", {"properties": ["networkmap.pid"], "endpoints": ["ipv4:10.0.0.1"]}, [PROPERTIES]),
            id="RFC 7285, 11.4.1.7",
        ),
        pytest.param(
            *("endpointcost", {"cost-type": ROUTING, "endpoints": ADDRESSES}, [ENDPOINT_COST]), id="RFC 7285, 11.5.1.7"
        ),
        *(
            pytest.param(
                *("endpointcost", {"cost-type": ROUTING | {"cost-metric": metric}, "endpoints": ADDRESSES}),
                *([ENDPOINT_COST],),
                id=f"RFC 9439, {metric}",
            )
            for metric in ("delay-ow", "hopcount", "tput", "bw-residual", "bw-available")
        ),
        pytest.param(
            "costmap-pv",
            {"cost-type": ANE_PATH, "pids": PIDS, "ane-property-names": [BANDWIDTH]},
            [PV_MAP, ELEMENTS],
            id="RFC 9275, 8.3: multipart filtered cost map",
        ),
        pytest.param(
            "endpointcost-pv",
            {"cost-type": ANE_PATH, "endpoints": ADDRESSES, "ane-property-names": [BANDWIDTH]},
            [PV_ENDPOINTS, ELEMENTS],
            id="RFC 9275, 8.4: multipart endpoint cost service",
        ),
    ],
)  # fmt: skip
def test_an_answer_has_the_members_of_the_example(
    resource_id: str, given: dict[str, Any] | None, examples: list[dict[str, Any]]
) -> None:
    answers = answer(resource_id, given)
    for found, example in zip(answers, examples, strict=True):
        assert without_context(shape(found)) == shape(example)


def test_an_error_has_the_members_of_the_example() -> None:
    """RFC 7285, 8.5: the code, the field and its value."""
    with pytest.raises(AltoError) as raised:
        answer("costmap-filtered", {"cost-type": ROUTING | {"cost-metric": "other"}, "pids": PIDS})
    example = {"meta": {"code": "E_INVALID_FIELD_VALUE", "field": "cost-type/cost-metric", "value": "other"}}
    assert raised.value.document() == example


def test_the_directory_has_the_members_of_the_example() -> None:
    """RFC 7285, 9.2.3 and 9.2.4: every member of the entries kept is in ours, at the same place."""
    costs, filters = "application/alto-costmap+json", "application/alto-costmapfilter+json"
    example = {
        "meta": {"cost-types": {"num-routing": ROUTING}, "default-alto-network-map": "my-default-network-map"},
        "resources": {
            "filtered-cost-map": {
                "uri": "http://alto.example.com/costmap/filtered",
                "media-type": costs,
                "accepts": filters,
                "capabilities": {"cost-constraints": True, "cost-type-names": ["num-routing"]},
                "uses": ["my-default-network-map"],
            },
            "endpoint-property": {
                "uri": "http://alto.example.com/endpointprop/lookup",
                "media-type": "application/alto-endpointprop+json",
                "accepts": "application/alto-endpointpropparams+json",
                "capabilities": {"prop-types": ["my-default-network-map.pid"]},
            },
        },
    }
    assert shape(example) <= shape(ALTO.directory)
    filtered = [entry for entry in ALTO.directory["resources"].values() if entry.get("accepts") == filters]
    assert any(entry["media-type"] == costs for entry in filtered)


def test_a_stream_has_the_events_of_the_example() -> None:
    """RFC 8895, section 8: control address, network map, cost map, then a merge patch of what has changed."""
    updates = UpdateStream(ALTO, "ipv4:10.0.0.1", "http://localhost/updates/streams/3141592653589")
    updates.start(
        {"add": {"my-network-map": {"resource-id": "networkmap"}, "my-costs": {"resource-id": "costmap-tput"}}}
    )
    first = updates.events(SNAPSHOT)
    busier = AltoSnapshot(SNAPSHOT.sampled_unix_s + 1, np.full(len(FABRIC.links), 0.75))
    told = [(event.kind, json.loads(event.data)) for event in (*first, *updates.events(busier))]
    assert [kind for kind, _ in told] == [
        "application/alto-updatestreamcontrol+json",
        "application/alto-networkmap+json,my-network-map",
        "application/alto-costmap+json,my-costs",
        "application/merge-patch+json,my-costs",
    ]
    control, network_map, costs, patch = (document for _, document in told)
    assert shape(control) == shape({"control-uri": "http://alto.example.com/updates/streams/3141592653589"})
    assert shape(network_map) == shape(NETWORK_MAP)
    assert without_context(shape(costs)) == shape(COST_MAP)
    assert shape(patch) == shape({"cost-map": {"PID1": {"PID2": 9}}})
