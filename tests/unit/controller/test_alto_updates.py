"""Updates by server-sent events (RFC 8895): what a client is told, in which order, and that patches add up."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.alto.alto_query import AltoError
from controller.alto.alto_resources import AltoResources
from controller.alto.fabric_costs import AltoSnapshot
from controller.alto.update_stream import MOST_SUBSTREAMS, StreamEvent, UpdateStream, merge_patch
from topologies import FabricSpec, build_fattree

ALTO = AltoResources(build_fattree(FabricSpec()))
CONTROL = "application/alto-updatestreamcontrol+json"
PATCH = "application/merge-patch+json"
MAPS = {"add": {"bw": {"resource-id": "costmap-bw-available"}, "map": {"resource-id": "networkmap"}}}
PATHS = {
    "resource-id": "endpointcost-pv",
    "input": {
        "cost-type": {"cost-mode": "array", "cost-metric": "ane-path"},
        "endpoints": {"srcs": ["ipv4:10.0.0.1"], "dsts": ["ipv4:10.1.0.1"]},
        "ane-property-names": ["priv:netkv-available-bandwidth"],
    },
}

LEAF = st.integers() | st.text(max_size=3) | st.booleans() | st.lists(st.integers(), max_size=2)
DOCUMENT = st.dictionaries(
    st.text(max_size=2),
    st.recursive(LEAF, lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3)),
    max_size=4,
)


def snapshot(utilisation: float, at_s: float = 1.0) -> AltoSnapshot:
    return AltoSnapshot(at_s, np.full(len(ALTO.costs.fabric.links), utilisation))


def stream(request: dict[str, Any]) -> UpdateStream:
    made = UpdateStream(ALTO, "ipv4:127.0.0.1", "http://localhost/updates/streams/1")
    made.start(request)
    return made


def kinds(events: list[StreamEvent]) -> list[str]:
    return [event.kind for event in events]


def patched(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, as written there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = patched(result.get(name), value)
    return result


@given(DOCUMENT, DOCUMENT)
def test_a_patch_makes_the_one_document_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert patched(before, merge_patch(before, after)) == after


@given(DOCUMENT)
def test_between_equal_documents_there_is_no_patch(document: dict[str, Any]) -> None:
    assert merge_patch(document, json.loads(json.dumps(document))) == {}


def test_first_the_control_address_then_the_map_before_what_depends_on_it() -> None:
    first = stream(MAPS).events(snapshot(0.2))
    assert kinds(first) == [CONTROL, "application/alto-networkmap+json,map", "application/alto-costmap+json,bw"]
    assert json.loads(first[0].data) == {"control-uri": "http://localhost/updates/streams/1"}


def test_then_patches_of_what_changed_and_nothing_where_nothing_did() -> None:
    updates = stream(MAPS)
    known = json.loads(updates.events(snapshot(0.2))[2].data)
    assert updates.events(snapshot(0.2, 2.0)) == []
    (patch,) = updates.events(snapshot(0.5, 3.0))
    assert patch.kind == f"{PATCH},bw"
    assert "meta" not in json.loads(patch.data)
    fresh = json.loads(stream(MAPS).events(snapshot(0.5))[2].data)
    assert patched(known, json.loads(patch.data)) == fresh


def test_who_wants_no_patches_gets_the_whole_document() -> None:
    updates = stream({"add": {"bw": {"resource-id": "costmap-bw-available", "incremental-changes": False}}})
    updates.events(snapshot(0.2))
    assert kinds(updates.events(snapshot(0.5))) == ["application/alto-costmap+json,bw"]


def test_who_has_a_version_already_is_not_sent_it_again() -> None:
    request = {"add": {"map": {"resource-id": "networkmap", "tag": ALTO.vtag["tag"]}}}
    assert kinds(stream(request).events(snapshot(0.2))) == [CONTROL]
    request["add"]["map"]["tag"] = "old"
    assert len(stream(request).events(snapshot(0.2))) == 2


def test_before_the_first_snapshot_only_what_needs_none_is_sent() -> None:
    updates = stream(MAPS)
    assert kinds(updates.events(None)) == [CONTROL, "application/alto-networkmap+json,map"]
    assert kinds(updates.events(snapshot(0.1))) == ["application/alto-costmap+json,bw"]


def test_the_parts_of_a_path_vector_are_patched_one_by_one() -> None:
    """RFC 9275, 8.5: the paths stay, what is left of their elements changes."""
    updates = stream({"add": {"pv": PATHS}})
    _, whole = updates.events(snapshot(0.2))
    assert whole.kind.startswith("multipart/related;boundary=")
    assert whole.kind.endswith(";type=application/alto-endpointcost+json,pv")
    boundary = whole.kind.partition("boundary=")[2].partition(";")[0]
    assert whole.data.count(f"--{boundary}\n") == 2
    assert whole.data.endswith(f"--{boundary}--")
    (patch,) = updates.events(snapshot(0.5))
    assert patch.kind == f"{PATCH},pv.propmap"
    assert set(json.loads(patch.data)) == {"property-map"}


def test_every_line_of_an_event_is_a_field_of_it() -> None:
    assert StreamEvent("kind", "one\ntwo").encode() == b"event: kind\ndata: one\ndata: two\n\n"


def test_stream_control_removes_and_adds_and_says_so() -> None:
    updates = stream(MAPS)
    updates.events(snapshot(0.2))
    updates.control({"remove": ["bw"], "add": {"delay": {"resource-id": "costmap-delay-ow"}}})
    told = updates.events(snapshot(0.5))
    assert [json.loads(event.data) for event in told[:2]] == [{"stopped": ["bw"]}, {"started": ["delay"]}]
    assert kinds(told[2:]) == ["application/alto-costmap+json,delay"]
    assert not updates.ended
    updates.control({"remove": ["map", "delay"]})
    assert updates.ended


@pytest.mark.parametrize(
    ("request_", "code", "place", "value"),
    [
        ({}, "E_MISSING_FIELD", "add", None),
        ({"add": []}, "E_INVALID_FIELD_TYPE", "add", None),
        ({"add": {}}, "E_INVALID_FIELD_VALUE", "add", "{}"),
        ({"add": {"a": 1}}, "E_INVALID_FIELD_TYPE", "add/a", None),
        ({"add": {"a": {}}}, "E_MISSING_FIELD", "add/a/resource-id", None),
        ({"add": {"a": {"resource-id": "other"}}}, "E_INVALID_FIELD_VALUE", "add/a/resource-id", "other"),
        ({"add": {"a.b": {"resource-id": "networkmap"}}}, "E_INVALID_FIELD_VALUE", "add", "a.b"),
        ({"add": {"a": {"resource-id": "endpointcost"}}}, "E_MISSING_FIELD", "add/a/input", None),
        (
            *({"add": {"a": {"resource-id": "costmap-filtered", "input": {"cost-type": {}}}}}, "E_MISSING_FIELD"),
            *("add/a/input/cost-type/cost-metric", None),
        ),
        (
            *({"add": {"a": {"resource-id": "networkmap", "incremental-changes": 1}}}, "E_INVALID_FIELD_TYPE"),
            *("add/a/incremental-changes", None),
        ),
    ],
)
def test_a_wrong_request_starts_no_stream(request_: dict[str, Any], code: str, place: str, value: str | None) -> None:
    with pytest.raises(AltoError) as raised:
        stream(request_)
    assert raised.value.document()["meta"] == {"code": code, "field": place} | ({"value": value} if value else {})


@pytest.mark.parametrize(
    ("request_", "place"),
    [({}, "add"), ({"remove": ["other"]}, "remove"), ({"remove": ["bw"], "add": {"map": MAPS["add"]["map"]}}, "add")],
)
def test_a_wrong_control_request_changes_nothing(request_: dict[str, Any], place: str) -> None:
    updates = stream(MAPS)
    updates.events(snapshot(0.2))
    with pytest.raises(AltoError) as raised:
        updates.control(request_)
    assert raised.value.place == place
    assert kinds(updates.events(snapshot(0.5))) == [f"{PATCH},bw"]


def test_a_stream_has_a_bound() -> None:
    many = {f"s{n}": {"resource-id": "networkmap"} for n in range(MOST_SUBSTREAMS)}
    updates = stream({"add": many})
    with pytest.raises(AltoError):
        updates.control({"add": {"more": {"resource-id": "networkmap"}}})
