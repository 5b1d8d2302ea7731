"""The information resources of our ALTO server, and its directory: pure, a request and a snapshot in, documents out.

What a resource is called, takes and offers is in one table, which the directory (RFC 7285, 9.2) is made from.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from controller.alto import alto_types as media
from controller.alto.alto_query import CostQuery, check_address, cost_query, names, wrong_value
from controller.alto.alto_types import AltoRequest, AltoResource, Answer, AnswerPart, short_number, version_tag
from controller.alto.fabric_costs import METRICS, FabricCosts, Floats
from controller.alto.path_vectors import CAPACITY, LEFT, PATH_TYPE, PATH_VECTOR, PathVectors
from topologies import Fabric

MAP = "networkmap"
UPDATES = "updates"
OUTSIDE = "outside"
"""The PID of every address that is none of the fabric's: a network map must be complete (RFC 7285, 11.2.2)."""


class AltoResources:
    """Every resource that a fabric's ALTO server has: `by_uri`, `by_id`, and the `directory`.

    ValueError for a fabric too large to be served.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.costs = FabricCosts(fabric)
        self.cost_types: dict[str, dict[str, Any]] = {
            f"num-{name}": {
                "cost-mode": "numerical",
                "cost-metric": name,
                "cost-context": {"cost-source": metric.source, "parameters": metric.parameters},
            }
            for name, metric in METRICS.items()
        }
        self.cost_types["ord-routingcost"] = {**self.cost_types["num-routingcost"], "cost-mode": "ordinal"}
        self._vectors = PathVectors(self.costs, self.vtag)
        self._networks = [ipaddress.IPv4Network(prefix) for prefix in self.costs.prefixes]
        watched = [*self._maps(), *self._between_endpoints()]
        table = [*watched, self._endpoint_properties(), _update_stream([one.id for one in watched])]
        self.by_id = {resource.id: resource for resource in table}
        self.by_uri = {resource.uri: resource for resource in table}

    @cached_property
    def directory(self) -> dict[str, Any]:
        """The information resource directory."""
        meta = {"cost-types": {**self.cost_types, PATH_VECTOR: PATH_TYPE}, "default-alto-network-map": MAP}
        return {"meta": meta, "resources": {resource.id: resource.entry() for resource in self.by_id.values()}}

    @cached_property
    def network_map(self) -> dict[str, Any]:
        """PIDs are servers: their instances share a NIC."""
        served = {pid: {"ipv4": [prefix]} for pid, prefix in zip(self.costs.pids, self.costs.prefixes, strict=True)}
        return {**served, OUTSIDE: {"ipv4": ["0.0.0.0/0"]}}

    @cached_property
    def vtag(self) -> dict[str, str]:
        """The version tag of the network map."""
        return version_tag(MAP, self.network_map)

    def _maps(self) -> list[AltoResource]:
        """Maps whole and filtered (RFC 7285, 11.2 and 11.3), path vectors between servers (RFC 9275, 7.2)."""
        whole = [
            AltoResource(
                f"costmap-{name.removeprefix('num-')}",
                f"/costmap/{name.removeprefix('num-')}",
                media.COST_MAP,
                partial(self._cost_map, CostQuery(name, (), (), ())),
                capabilities={"cost-type-names": [name]},
                uses=(MAP,),
            )
            for name in self.cost_types
        ]
        return [
            AltoResource(MAP, "/networkmap", media.NETWORK_MAP, lambda _: self._filtered_map({"pids": []})),
            AltoResource(
                f"{MAP}-filtered",
                "/networkmap/filtered",
                media.NETWORK_MAP,
                lambda request: self._filtered_map(request.given),
                accepts=media.NETWORK_MAP_FILTER,
                uses=(MAP,),
            ),
            *whole,
            AltoResource(
                "costmap-filtered",
                "/costmap/filtered",
                media.COST_MAP,
                lambda request: self._cost_map(cost_query(request.given, self.cost_types), request),
                accepts=media.COST_MAP_FILTER,
                capabilities={"cost-type-names": list(self.cost_types), "cost-constraints": True},
                uses=(MAP,),
            ),
            AltoResource(
                "costmap-pv",
                "/costmap/pv",
                f"multipart/related;type={media.COST_MAP}",
                partial(self._vectors.of_pids, "costmap-pv"),
                accepts=media.COST_MAP_FILTER,
                capabilities={"cost-type-names": [PATH_VECTOR], "ane-property-names": [CAPACITY, LEFT]},
                uses=(MAP,),
            ),
        ]

    def _between_endpoints(self) -> list[AltoResource]:
        """The endpoint cost service (RFC 7285, 11.5), and path vectors between endpoints (RFC 9275, 7.3)."""
        return [
            AltoResource(
                "endpointcost",
                "/endpointcost",
                media.ENDPOINT_COST,
                self._endpoint_cost,
                accepts=media.ENDPOINT_COST_PARAMETERS,
                capabilities={"cost-type-names": list(self.cost_types), "cost-constraints": True},
            ),
            AltoResource(
                "endpointcost-pv",
                "/endpointcost/pv",
                f"multipart/related;type={media.ENDPOINT_COST}",
                self._path_vectors,
                accepts=media.ENDPOINT_COST_PARAMETERS,
                capabilities={"cost-type-names": [PATH_VECTOR], "ane-property-names": [CAPACITY, LEFT]},
            ),
        ]

    def _endpoint_properties(self) -> AltoResource:
        """The endpoint property service (RFC 7285, 11.4), which must tell the PID of an address."""
        return AltoResource(
            "endpointprop",
            "/endpointprop",
            media.ENDPOINT_PROPERTY,
            self._properties,
            accepts=media.ENDPOINT_PROPERTY_PARAMETERS,
            capabilities={"prop-types": [f"{MAP}.pid"]},
        )

    def _filtered_map(self, given: Mapping[str, Any]) -> Answer:
        """The version tag is that of the whole map (RFC 7285, 11.3.1.6)."""
        pids = names(given, "pids", optional=False) or list(self.network_map)
        kinds = names(given, "address-types") or ["ipv4"]
        kept = {pid: self.network_map[pid] if "ipv4" in kinds else {} for pid in pids if pid in self.network_map}
        return (AnswerPart(media.NETWORK_MAP, {"meta": {"vtag": self.vtag}, "network-map": kept}),)

    def _cost_map(self, query: CostQuery, request: AltoRequest) -> Answer:
        costs = self.costs.by_pid(self._between_instances(query.cost_type, request))
        row = {pid: at for at, pid in enumerate(self.costs.pids)}
        sources, targets = ([row[pid] for pid in end or row if pid in row] for end in (query.sources, query.targets))
        found = self._table(query, costs, sources, targets, self.costs.pids)
        meta = {"dependent-vtags": [self.vtag], "cost-type": self.cost_types[query.cost_type]}
        return (AnswerPart(media.COST_MAP, {"meta": meta, "cost-map": found}),)

    def _endpoint_cost(self, request: AltoRequest) -> Answer:
        query = cost_query(request.given, self.cost_types, of_endpoints=True)
        costs = self._between_instances(query.cost_type, request)
        costs[np.diag_indices(len(costs))] = math.nan
        called = [f"ipv4:{address}" for address in self.costs.addresses]
        found = self._table(query, costs, *self._instances(query, request), called)
        meta = {"cost-type": self.cost_types[query.cost_type]}
        return (AnswerPart(media.ENDPOINT_COST, {"meta": meta, "endpoint-cost-map": found}),)

    def _path_vectors(self, request: AltoRequest) -> Answer:
        query = self._vectors.query(request, of_endpoints=True)
        return self._vectors.of_endpoints("endpointcost-pv", query, self._instances(query, request), request)

    def _between_instances(self, cost_type: str, request: AltoRequest) -> Floats:
        """The costs of a type between all instances, [I, I]. NoSnapshotError where it needs one and there is none."""
        metric = METRICS[self.cost_types[cost_type]["cost-metric"]]
        idle = np.zeros(len(self.costs.fabric.links))
        return metric.values(self.costs, request.utilisation if metric.sampled else idle)

    def _table(
        self, query: CostQuery, costs: Floats, sources: list[int], targets: list[int], called: Sequence[str]
    ) -> dict[str, dict[str, float]]:
        """By source, the targets whose cost is defined and meets the constraints; ranks are among those asked for."""
        kind = self.cost_types[query.cost_type]
        part = costs[np.ix_(sources, targets)]
        if kind["cost-mode"] == "ordinal":
            ranks = np.unique(part[~np.isnan(part)])
            part = np.where(np.isnan(part), math.nan, np.searchsorted(ranks, part) + 1)
        digits = METRICS[kind["cost-metric"]].digits
        found = {
            called[at]: {
                called[to]: short_number(cost, digits)
                for to, cost in zip(targets, row, strict=True)
                if not math.isnan(cost) and all(test(cost) for test in query.constraints)
            }
            for at, row in zip(sources, part.tolist(), strict=True)
        }
        return {source: row for source, row in found.items() if row}

    def _instances(self, query: CostQuery, request: AltoRequest) -> tuple[list[int], list[int]]:
        """The fabric's own addresses among those asked for, as numbers; the client's stands for an empty list."""
        number_of = self.costs.number_of
        ends = (
            [typed.removeprefix("ipv4:") for typed in end or (request.client,)]
            for end in (query.sources, query.targets)
        )
        sources, targets = ([number_of[address] for address in end if address in number_of] for end in ends)
        return sources, targets

    def _properties(self, request: AltoRequest) -> Answer:
        asked, endpoints = (names(request.given, place, optional=False) for place in ("properties", "endpoints"))
        for one in asked:
            if one != f"{MAP}.pid":
                raise wrong_value("properties", one)
        for place, given in (("properties", asked), ("endpoints", endpoints)):
            if not given:
                raise wrong_value(place, given)
        found = {}
        for typed in endpoints:
            check_address("endpoints", typed)
            pid = self._pid(typed)
            found[typed] = {f"{MAP}.pid": pid} if pid else {}
        return (
            AnswerPart(
                media.ENDPOINT_PROPERTY, {"meta": {"dependent-vtags": [self.vtag]}, "endpoint-properties": found}
            ),
        )

    def _pid(self, typed: str) -> str:
        """The PID of an address by longest prefix; none for one of a kind that the network map does not have."""
        kind, _, address = typed.partition(":")
        if kind != "ipv4":
            return ""
        here = ipaddress.IPv4Address(address)
        inside = (pid for pid, network in zip(self.costs.pids, self._networks, strict=True) if here in network)
        return next(inside, OUTSIDE)


def _update_stream(watched: list[str]) -> AltoResource:
    """The update stream service (RFC 8895, 6)."""
    return AltoResource(
        UPDATES,
        "/updates",
        media.EVENT_STREAM,
        None,
        accepts=media.UPDATE_STREAM_PARAMETERS,
        capabilities={
            "incremental-change-media-types": dict.fromkeys(watched, media.MERGE_PATCH),
            "support-stream-control": True,
        },
        uses=tuple(watched),
    )
