"""The rows of `links.parquet`: samples of the controller's counters of every link during a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from testbed.fabric_up import ORACLE_SOCKET
from testbed.oracle_client import OracleClient, OracleUnavailableError

SAMPLE_S = 0.5
"""Between two rows of a link, wall seconds."""

ORACLE_DEADLINE_S = 0.5


async def log_links(rows: list[dict[str, Any]], real_s: Callable[[float], float], rate_scale: float) -> None:
    """Append one row for each link whenever the controller has a new sample, until cancelled; bytes of the real system.

    Bytes are relative to the first sample after t = 0, because the controller's counters include earlier runs on this
    fabric.
    """
    client = OracleClient(ORACLE_SOCKET)
    last_s = None
    baseline: dict[str, int] = {}
    while True:
        try:
            document = await asyncio.to_thread(client.fetch, ORACLE_DEADLINE_S)
        except OracleUnavailableError:
            document = {}
        sampled_s = document.get("sampled_monotonic_s")
        if sampled_s is not None and sampled_s != last_s and real_s(sampled_s) >= 0:
            last_s = sampled_s
            for name, link in document["links"].items():
                carried = link["bytes"] - baseline.setdefault(name, link["bytes"])
                row = {"time_s": real_s(sampled_s), "link": name, "utilisation": link["utilisation"]}
                rows.append(row | {"bytes": carried * rate_scale})
        await asyncio.sleep(SAMPLE_S)
