"""Traces ECMP: asks the switches after a run which equal-cost path each of its connections took.

Walks hop by hop and asks a switch only where the paths diverge, that is on the way up. The answer is the switch's own
(`ofproto/trace`, ovs-vswitchd(8)), not a model of its hash. The hash covers the Ethernet addresses too
(`symmetric_l4`, ovs-actions(7)), so a query without them gives another answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from serving import Outcome
from testbed.vswitchd import VSwitchd
from topologies import Fabric, instance_ip, instance_mac
from topologies.mininet import interface_of

UNKNOWN = -1
"""The path when a trace does not show it: the datapath makes a SELECT group's choice."""

OUTPUT = re.compile(r"^Datapath actions: (\d+)$", re.MULTILINE)
PORT = re.compile(r"^ {4}(\S+) \d+/(\d+):", re.MULTILINE)
"""One port in the output of `dpif/show`: its interface, its OpenFlow port and its datapath port."""

TRANSFER, BACKGROUND = "transfer", "background"

Ask = Callable[..., str]


class TracedConnection(NamedTuple):
    """The fields of a connection that every switch hashes; instances by index."""

    source: int
    target: int
    source_port: int
    target_port: int
    protocol: str = "tcp"


class PathTracer:
    """Answers which of `fabric.paths(source, target)` a connection takes. `ask` is `VSwitchd.ask` or a fake of it."""

    def __init__(self, fabric: Fabric, ask: Ask) -> None:
        self._fabric = fabric
        self._ask = ask
        self._interface_of_port = {
            (name.rpartition("-")[0], int(port)): name for name, port in PORT.findall(ask("dpif/show"))
        }
        self._link_of_interface = {interface_of(link): link.index for link in fabric.links}
        self._found: dict[TracedConnection, int] = {}

    def path(self, connection: TracedConnection) -> int:
        """The index of the path, `UNKNOWN` when a trace on the way up does not show it.

        The switches are asked once of a connection, however many transfers it carried: an hour has 50,000.
        """
        if connection not in self._found:
            self._found[connection] = self._traced(connection)
        return self._found[connection]

    def _traced(self, connection: TracedConnection) -> int:
        left = dict(enumerate(self._fabric.paths(connection.source, connection.target)))
        for hop in range(1, len(left[0])):
            if len({path[hop] for path in left.values()}) == 1:
                continue
            came_by = self._fabric.links[next(iter(left.values()))[hop - 1]]
            leaves_by = self._leaves_by(came_by.target, came_by.target_port, connection)
            left = {index: path for index, path in left.items() if path[hop] == leaves_by}
            if not left:
                return UNKNOWN
        return next(iter(left))

    def _leaves_by(self, switch: str, in_port: int, connection: TracedConnection) -> int:
        """Index of the link onto which a switch sends a connection's packets; `UNKNOWN` for none or several."""
        source = self._fabric.instances[connection.source]
        target = self._fabric.instances[connection.target]
        flow = (
            f"in_port={in_port},{connection.protocol},dl_src={instance_mac(source)},dl_dst={instance_mac(target)},"
            f"nw_src={instance_ip(source)},nw_dst={instance_ip(target)},nw_ttl=64,"
            f"{connection.protocol}_src={connection.source_port},{connection.protocol}_dst={connection.target_port}"
        )
        found = OUTPUT.search(self._ask("ofproto/trace", switch, flow))
        if found is None:
            return UNKNOWN
        return self._link_of_interface.get(self._interface_of_port.get((switch, int(found[1])), ""), UNKNOWN)


def trace_paths(
    fabric: Fabric, outcome: Outcome, background_port: int, connect: Callable[[], VSwitchd] = VSwitchd
) -> None:
    """Set `paths` of an outcome and of its decisions; to be called while the switches still run as during the run."""
    with connect() as vswitchd:
        tracer = PathTracer(fabric, vswitchd.ask)
        for row, connection in _transfers(outcome):
            outcome.paths.append(_row(fabric, row, connection, tracer.path(connection)))
        for row, connection in _background(outcome, background_port):
            outcome.paths.append(_row(fabric, row, connection, tracer.path(connection)))
    taken: dict[int, list[int]] = {}
    for found in outcome.paths:
        if found["owner"] == TRANSFER:
            taken.setdefault(found["number"], []).append(found["path"])
    for decision in outcome.decisions:
        decision["paths"] = taken.get(decision["request_id"], [])


def _transfers(outcome: Outcome) -> Iterator[tuple[dict[str, Any], TracedConnection]]:
    """Every connected stripe, with its share of the blob."""
    records = {record.request_id: record for record in outcome.requests}
    for decision in outcome.decisions:
        ports = decision.get("source_ports") or []
        started_s = decision.get("transfer_started_s", float("nan"))
        ended_s = started_s + records[decision["request_id"]].kv_transfer_ms / 1e3
        for stripe, source_port in enumerate(ports):
            row = {
                **{"owner": TRANSFER, "number": decision["request_id"], "connection": stripe},
                **{"started_s": started_s, "ended_s": ended_s, "bytes": decision["kv_bytes"] / len(ports)},
                **{"rate_bps": None, "retransmitted": decision["retransmitted"][stripe]},
            }
            ends = (decision["prefill_id"], decision["decode_id"])
            yield row, TracedConnection(*ends, source_port, decision["target_port"])


def _background(outcome: Outcome, port: int) -> Iterator[tuple[dict[str, Any], TracedConnection]]:
    for flow in outcome.background:
        ports = flow["source_ports"]
        for number, source_port in enumerate(ports):
            row = {
                **{"owner": BACKGROUND, "number": flow["flow_id"], "connection": number},
                **{"started_s": flow["started_s"], "ended_s": flow["ended_s"], "bytes": flow["bytes"] / len(ports)},
                **{"rate_bps": flow["rate_bps"], "retransmitted": flow["retransmitted"][number]},
            }
            yield row, TracedConnection(flow["source"], flow["target"], source_port, port, flow["protocol"])


def _row(fabric: Fabric, row: dict[str, Any], connection: TracedConnection, path: int) -> dict[str, Any]:
    paths = fabric.paths(connection.source, connection.target)
    return {
        **row,
        "source": connection.source,
        "target": connection.target,
        "tier": fabric.tier(connection.source, connection.target),
        "source_port": connection.source_port,
        "equal_paths": len(paths),
        "path": path,
        "links": [] if path == UNKNOWN else [fabric.links[link].name for link in paths[path]],
    }
