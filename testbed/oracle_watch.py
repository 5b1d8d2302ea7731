"""The scheduler's telemetry snapshots during a run: read from the controller's socket whenever one is due."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from scheduler import Dispatcher, NetworkSample, OracleError, parse_document
from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.run_clock import RunClock
from testbed.spool import Spool
from topologies import Fabric


class OracleWatch:
    """Gives a dispatcher a new sample every `refresh_s`; when one is refused or missing, the old one stays in use.

    `refused`: one line for each document that was missing or invalid.
    """

    def __init__(
        self, client: OracleClient, dispatcher: Dispatcher, fabric: Fabric, clock: RunClock, first_s: float
    ) -> None:
        self._dispatcher = dispatcher
        self._names = [link.name for link in fabric.links]
        self._clock = clock
        self._first_s = first_s
        self._client = client
        self.refused: list[str] = []
        self._read: Spool[tuple[float, NetworkSample | None]] = Spool()

    async def watch(self) -> None:
        """Read a sample at `first_s` and whenever one is due, until none is due any more."""
        await self._clock.until(self._first_s)
        while True:
            now_s = self._clock.now_s()
            try:
                sample, refused = await asyncio.to_thread(self._sample), ""
            except (OracleUnavailableError, OracleError) as problem:
                sample, refused = None, str(problem)
                self.refused.append(refused)
            self._dispatcher.offer_sample(sample, now_s, refused)
            self._read.append((now_s, sample))
            next_s = self._dispatcher.oracle.next_due_s()
            if math.isinf(next_s):
                return
            await self._clock.until(next_s)

    def rows(self) -> list[dict[str, Any]]:
        """A mapping a link of every document read: read_s, sampled_s, link, utilisation; NaN where it was refused."""
        return [
            {
                **{"read_s": read_s, "sampled_s": math.nan if sample is None else sample.sampled_s, "link": name},
                "utilisation": math.nan if sample is None else float(sample.utilisation[at]),
            }
            for read_s, sample in self._read
            for at, name in enumerate(self._names)
        ]

    def _sample(self) -> NetworkSample:
        on_wire = parse_document(self._client.fetch(), self._names)
        if on_wire.sampled_s > time.monotonic():
            # It would be newer than every honest one that follows, and stay in use for ever.
            raise OracleError(f"sampled_monotonic_s: {on_wire.sampled_s:g} is in the future")
        return NetworkSample(self._clock.real_s(on_wire.sampled_s), on_wire.utilisation)
