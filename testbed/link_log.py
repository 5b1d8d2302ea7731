"""The rows of `links.parquet`: samples of the controller's counters of every link during a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.port_watch import PortWatch

SAMPLE_S = 0.5
"""Between two rows of a link, wall seconds."""

NOT_A_DOCUMENT = (LookupError, TypeError, AttributeError)
"""What reading the links of a document raises that is none."""


class LinkLog:
    """Logs every link whenever the controller has a new sample, in bytes of the real system: `rows`.

    `latest`: the utilisation of every link, by name, in the last sample; empty before the first.

    `real_s` turns the machine's monotonic clock into the run's. Bytes are relative to the first sample after t = 0,
    because the controller's counters include earlier runs on this fabric.
    """

    def __init__(self, client: OracleClient, real_s: Callable[[float], float], rate_scale: float) -> None:
        self._real_s = real_s
        self._rate_scale = rate_scale
        self._client = client
        self._last_s = 0.0
        self._first_bytes: dict[str, int] = {}
        self._samples: list[tuple[float, int]] = []
        self._last_bytes: dict[str, int] = {}
        self.rows: list[dict[str, Any]] = []
        self.latest: dict[str, float] = {}

    async def watch(self) -> None:
        """Log until cancelled; in a thread, because the loop that calls this serves requests."""
        while True:
            with suppress(OracleUnavailableError):
                self.rows += await asyncio.to_thread(self._new_rows)
            await asyncio.sleep(SAMPLE_S)

    def _new_rows(self) -> list[dict[str, Any]]:
        document = self._client.fetch()
        with suppress(*NOT_A_DOCUMENT):  # the scheduler's reader says what is wrong
            return self._rows_of(document)
        return []

    def _rows_of(self, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        sampled_s = document["sampled_monotonic_s"]
        if sampled_s is None or sampled_s == self._last_s or self._real_s(sampled_s) < 0:
            return []
        self._last_s, at_s = sampled_s, self._real_s(sampled_s)
        for name, link in document["links"].items():
            if link["bytes"] < (last := self._last_bytes.get(name, 0)):  # of a controller that was started anew
                self._first_bytes[name] -= last
            self._last_bytes[name] = link["bytes"]
        self.latest = {name: min(link["utilisation"], 1.0) for name, link in document["links"].items()}
        carried = {
            name: link["bytes"] - self._first_bytes.setdefault(name, link["bytes"])
            for name, link in document["links"].items()
        }
        self._samples.append((sampled_s, sum(carried.values())))
        return [
            {
                **{"time_s": at_s, "link": name, "utilisation": link["utilisation"]},
                "bytes": carried[name] * self._rate_scale,
            }
            for name, link in document["links"].items()
        ]

    def against(self, ports: PortWatch) -> float | None:
        """What the controller counted on all links beyond what the ports did meanwhile, as a part of the latter.

        Between the first and the last sample that the ports were watched around, None without two such or bytes.
        """
        watched = [sample for sample in self._samples if ports.watched(sample[0])]
        if len(watched) < 2:
            return None
        (from_s, from_bytes), (to_s, to_bytes) = watched[0], watched[-1]
        carried_bytes = ports.carried_bytes(from_s, to_s)
        return (to_bytes - from_bytes) / carried_bytes - 1 if carried_bytes else None
