"""Path vectors (RFC 9275): the elements that paths cross, what those can carry, and both as one multipart answer.

Two paths that name the same element share its links, whatever their ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from controller.alto.alto_query import CostQuery, cost_query
from controller.alto.alto_types import (
    COST_MAP,
    ENDPOINT_COST,
    PROPERTY_MAP,
    AltoRequest,
    Answer,
    AnswerPart,
    short_number,
    version_tag,
)
from controller.alto.fabric_costs import FabricCosts, Floats

PATH_VECTOR = "path-vector"
PATH_TYPE = {"cost-mode": "array", "cost-metric": "ane-path"}
CAPACITY, LEFT = "max-reservable-bandwidth", "priv:netkv-available-bandwidth"
"""Properties of an element, bit/s: RFC 9275 (6.4.1), and one of ours: what nobody used when the snapshot was taken."""

DOMAIN = "localhost"
"""Of the Content-ID of a part, `<costmap@localhost>` (RFC 9275, 6.6)."""

DIGITS = 9

Paths = dict[str, dict[str, list[str]]]


class PathVectors:
    """Answers with paths between servers or instances. `vtag`: of the network map that names the servers."""

    def __init__(self, costs: FabricCosts, vtag: dict[str, str]) -> None:
        self._costs = costs
        self._vtag = vtag

    def query(self, request: AltoRequest, *, of_endpoints: bool) -> CostQuery:
        """AltoError for a request that is wrong."""
        return cost_query(
            request.given,
            {PATH_VECTOR: PATH_TYPE},
            of_endpoints=of_endpoints,
            properties=(CAPACITY, LEFT),
            testable=False,
        )

    def of_pids(self, resource_id: str, request: AltoRequest) -> Answer:
        """Paths from server to server; between the instances of one there is no common element."""
        query = self.query(request, of_endpoints=False)
        first = {pid: int((self._costs.pid_of == at).argmax()) for at, pid in enumerate(self._costs.pids)}
        sources, targets = ([pid for pid in end or first if pid in first] for end in (query.sources, query.targets))
        paths = {
            source: {
                target: self._costs.path(first[source], first[target])[1:-1] for target in targets if target != source
            }
            for source in sources
        }
        tag = version_tag(f"{resource_id}.costmap", paths)
        meta = {"vtag": tag, "dependent-vtags": [self._vtag], "cost-type": PATH_TYPE}
        vectors = AnswerPart(COST_MAP, {"meta": meta, "cost-map": paths}, "costmap")
        return vectors, self._properties(tag, paths, query, request)

    def of_endpoints(
        self, resource_id: str, query: CostQuery, ends: tuple[list[int], ...], request: AltoRequest
    ) -> Answer:
        """Paths between instances, `ends` numbers of sources and targets."""
        called = [f"ipv4:{address}" for address in self._costs.addresses]
        paths = {
            called[source]: {called[target]: self._costs.path(source, target) for target in ends[1] if target != source}
            for source in ends[0]
        }
        tag = version_tag(f"{resource_id}.endpointcost", paths)
        meta = {"vtag": tag, "cost-type": PATH_TYPE}
        vectors = AnswerPart(ENDPOINT_COST, {"meta": meta, "endpoint-cost-map": paths}, "endpointcost")
        return vectors, self._properties(tag, paths, query, request)

    def _properties(self, tag: dict[str, str], paths: Paths, query: CostQuery, request: AltoRequest) -> AnswerPart:
        """The property map of the elements crossed; empty where no property was asked for."""
        of_element: dict[str, Callable[[], Floats]] = {
            CAPACITY: lambda: self._costs.capacity_Bps,
            LEFT: lambda: self._costs.left_Bps(request.utilisation),
        }
        values = {one: 8 * of_element[one]() for one in query.properties}
        crossed = {element for row in paths.values() for path in row.values() for element in path} if values else set()
        found = {
            f".ane:{element}": {one: short_number(float(value[at]), DIGITS) for one, value in values.items()}
            for at, element in enumerate(self._costs.elements)
            if element in crossed
        }
        return AnswerPart(PROPERTY_MAP, {"meta": {"dependent-vtags": [tag]}, "property-map": found}, "propmap")


def multipart(answer: Answer, boundary: str) -> tuple[str, bytes]:
    """The media type and the body of an answer of several parts; the first is its root (RFC 2387)."""
    head = f"multipart/related; boundary={boundary}; type={answer[0].media_type}"
    lines = []
    for part in answer:
        lines += [
            f"--{boundary}",
            f"Content-ID: <{part.name}@{DOMAIN}>",
            f"Content-Type: {part.media_type}",
            "",
            json.dumps(part.document, separators=(",", ":")),
        ]
    return head, "\r\n".join([*lines, f"--{boundary}--", ""]).encode()
