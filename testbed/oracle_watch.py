"""The scheduler's network view during a run: a new sample whenever one is due, asked of the controller's socket."""

from __future__ import annotations

import asyncio
import math

from scheduler import Dispatcher, NetworkSample, OracleError, parse_document
from testbed.fabric_up import ORACLE_SOCKET
from testbed.link_log import ORACLE_DEADLINE_S
from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.run_clock import RunClock
from topologies import Fabric


class OracleWatch:
    """Offers a dispatcher a sample every `refresh_s`; a refused or missing one leaves the old one to age.

    `refused`: a line a document that could not be had or used.
    """

    def __init__(self, dispatcher: Dispatcher, fabric: Fabric, clock: RunClock) -> None:
        self._dispatcher = dispatcher
        self._names = [link.name for link in fabric.links]
        self._clock = clock
        self._client = OracleClient(ORACLE_SOCKET)
        self.refused: list[str] = []

    async def watch(self) -> None:
        """Look whenever the oracle is due, until it never is again."""
        while True:
            now_s = self._clock.now_s()
            try:
                sample, refused = await asyncio.to_thread(self._sample), ""
            except (OracleUnavailableError, OracleError) as problem:
                sample, refused = None, str(problem)
                self.refused.append(refused)
            self._dispatcher.offer_sample(sample, now_s, refused)
            next_s = self._dispatcher.oracle.next_due_s()
            if math.isinf(next_s):
                return
            await self._clock.until(next_s)

    def _sample(self) -> NetworkSample:
        on_wire = parse_document(self._client.fetch(ORACLE_DEADLINE_S), self._names)
        return NetworkSample(self._clock.real_s(on_wire.sampled_s), on_wire.utilisation)
