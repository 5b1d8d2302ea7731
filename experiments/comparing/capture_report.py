"""What the captures of a run say of each of its connections, joined with the table `paths` by address and port.

Everything here is the emulation's own, as Wireshark shows it: its frames, its bytes, its wall time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.comparing.recorded_run import read_connections
from experiments.running import PCAP, StoreError, read_manifest, spec_of
from testbed import BACKGROUND_PORT, DECODE_PORT, Conversation, Endpoints, read_capture
from topologies import instance_ip

PORTS = {"transfer": DECODE_PORT, "background": BACKGROUND_PORT}


def read_captures(run: Path) -> pd.DataFrame:
    """A row a connection (of a persistent one: a transfer) and captured link that it crossed, in order of link, owner,
    number and connection.

    Columns: link, owner (`transfer` or `background`), number (request or flow), connection (stripe), frames, bytes (of
    those frames), retransmitted (of those frames), retransmitted_by_sender (the count of the sender's kernel; a segment
    lost before the port and retransmitted after the last one is in this count only), rtt_ms and rtt_p90_ms (port to
    target and back, NaN where every segment was in flight during a retransmission).

    StoreError when the run holds no captures; TestbedError when a file is no capture.
    """
    captures = read_manifest(run)["evidence"].get("captures", [])
    if not captures or not (run / PCAP).is_dir():
        raise StoreError(f"{run}: holds no captures; `netkv run --pcap LINK` makes them")
    connections = _by_endpoints(run)
    rows = []
    for capture in captures:
        met: dict[Endpoints, int] = {}
        for found in read_capture(run / PCAP / capture["file"], frozenset(PORTS.values())):
            known = connections.get(found.endpoints, [])
            if found.request_id is not None:
                mine = [row for row in known if row["number"] == found.request_id]
            else:
                turn = met.setdefault(found.endpoints, 0)
                met[found.endpoints] += 1
                mine = known[turn : turn + 1]
            rows += [{"link": capture["link"], **row, **_figures(found)} for row in mine]  # calibration transfers: none
    columns = ["link", "owner", "number", "connection", *FIGURES, "retransmitted_by_sender"]
    return pd.DataFrame(rows, columns=columns).sort_values(columns[:4], ignore_index=True)


FIGURES = ("frames", "bytes", "retransmitted", "rtt_ms", "rtt_p90_ms")


def _by_endpoints(run: Path) -> dict[Endpoints, list[dict[str, Any]]]:
    """The connections of a run by what a capture sees of them; those that used the same ports, in order of time."""
    fabric, _ = spec_of(run, read_manifest(run)).build()
    address = [instance_ip(instance) for instance in fabric.instances]
    found: dict[Endpoints, list[dict[str, Any]]] = {}
    names = ["owner", "number", "connection", "source", "target", "source_port", "retransmitted"]
    rows = read_connections(run).sort_values("started_s")[names]
    for owner, number, connection, source, target, port, by_sender in rows.itertuples(index=False):
        row = {"owner": owner, "number": number, "connection": connection, "retransmitted_by_sender": by_sender}
        found.setdefault(Endpoints(address[source], port, address[target], PORTS[owner]), []).append(row)
    return found


def _figures(found: Conversation) -> dict[str, Any]:
    rtt_ms = np.array(found.round_trip_s) * 1e3
    median, p90 = np.quantile(rtt_ms, [0.5, 0.9]) if len(rtt_ms) else (np.nan, np.nan)
    return dict(zip(FIGURES, (found.frames, found.frame_bytes, found.retransmitted, median, p90), strict=True))
