"""The rows of `links.parquet`: samples of the controller's counters of every link during a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from testbed.oracle_client import OracleClient, OracleUnavailableError

SAMPLE_S = 0.5
"""Between two rows of a link, wall seconds."""


class LinkLog:
    """Logs every link whenever the controller has a new sample, in bytes of the real system: `rows`.

    `real_s` turns the machine's monotonic clock into the run's. Bytes are relative to the first sample after t = 0,
    because the controller's counters include earlier runs on this fabric.
    """

    def __init__(self, client: OracleClient, real_s: Callable[[float], float], rate_scale: float) -> None:
        self._real_s = real_s
        self._rate_scale = rate_scale
        self._client = client
        self._last_s = 0.0
        self._first_bytes: dict[str, int] = {}
        self.rows: list[dict[str, Any]] = []

    async def watch(self) -> None:
        """Log until cancelled; in a thread, because the loop that calls this serves requests."""
        while True:
            with suppress(OracleUnavailableError):
                self.rows += await asyncio.to_thread(self._new_rows)
            await asyncio.sleep(SAMPLE_S)

    def _new_rows(self) -> list[dict[str, Any]]:
        document = self._client.fetch()
        sampled_s = document["sampled_monotonic_s"]
        if sampled_s is None or sampled_s == self._last_s or self._real_s(sampled_s) < 0:
            return []
        self._last_s, at_s = sampled_s, self._real_s(sampled_s)
        return [
            {
                **{"time_s": at_s, "link": name, "utilisation": link["utilisation"]},
                "bytes": (link["bytes"] - self._first_bytes.setdefault(name, link["bytes"])) * self._rate_scale,
            }
            for name, link in document["links"].items()
        ]
