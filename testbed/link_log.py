"""The rows of `links.parquet`: samples of the controller's counters of every link during a run."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.port_watch import PortWatch
from testbed.spool import Spool

SAMPLE_S = 0.5
"""Between two rows of a link, wall seconds."""

NOT_A_DOCUMENT = (LookupError, TypeError, AttributeError)
"""What reading the links of a document raises that is none."""


class LinkSample(NamedTuple):
    """All links at `at_s` of the run, `read_s` of the machine's clock; `carried_bytes` are emulated, since t = 0."""

    at_s: float
    read_s: float
    names: tuple[str, ...]
    """Empty where they are those of the sample before."""
    utilisation: array[float]
    carried_bytes: array[int]


class LinkLog:
    """Logs every link whenever the controller has a new sample, in bytes of the real system: `rows`.

    It keeps 16 bytes a link and sample on disk: 100 links in an hour are 12 MB.

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
        self._last_bytes: dict[str, int] = {}
        self._samples: Spool[LinkSample] = Spool()
        self._names: tuple[str, ...] = ()
        self.latest: dict[str, float] = {}

    async def watch(self) -> None:
        """Log until cancelled; in a thread, because the loop that calls this serves requests."""
        while True:
            with suppress(OracleUnavailableError):
                if sample := await asyncio.to_thread(self._sample):
                    self._samples.append(sample)
            await asyncio.sleep(SAMPLE_S)

    def rows(self) -> list[dict[str, Any]]:
        """A mapping a sample of a link: time_s, link, utilisation, bytes."""
        rows: list[dict[str, Any]] = []
        names: tuple[str, ...] = ()
        for sample in self._samples:
            names = sample.names or names
            rows += (
                {"time_s": sample.at_s, "link": name, "utilisation": utilisation, "bytes": carried * self._rate_scale}
                for name, utilisation, carried in zip(names, sample.utilisation, sample.carried_bytes, strict=True)
            )
        return rows

    def _sample(self) -> LinkSample | None:
        document = self._client.fetch()
        with suppress(*NOT_A_DOCUMENT):  # the scheduler's reader says what is wrong
            return self._new_sample(document)
        return None

    def _new_sample(self, document: Mapping[str, Any]) -> LinkSample | None:
        """None where it is the last one, or from before t = 0."""
        sampled_s = document["sampled_monotonic_s"]
        if sampled_s is None or sampled_s == self._last_s or self._real_s(sampled_s) < 0:
            return None
        self._last_s, at_s = sampled_s, self._real_s(sampled_s)
        for name, link in document["links"].items():
            if link["bytes"] < (last := self._last_bytes.get(name, 0)):  # of a controller that was started anew
                self._first_bytes[name] -= last
            self._last_bytes[name] = link["bytes"]
        self.latest = {name: min(link["utilisation"], 1.0) for name, link in document["links"].items()}
        names = tuple(document["links"])
        new_names, self._names = () if names == self._names else names, names
        utilisation = array("d", [link["utilisation"] for link in document["links"].values()])
        carried = [
            link["bytes"] - self._first_bytes.setdefault(name, link["bytes"])
            for name, link in document["links"].items()
        ]
        return LinkSample(at_s, sampled_s, new_names, utilisation, array("q", carried))

    def against(self, ports: PortWatch) -> float | None:
        """What the controller counted on all links beyond what the ports did meanwhile, as a part of the latter.

        Between the first and the last sample that the ports were watched around, None without two such or bytes.
        """
        watched = [sample for sample in self._samples if ports.watched(sample.read_s)]
        if len(watched) < 2:
            return None
        first, last = watched[0], watched[-1]
        carried_bytes = ports.carried_bytes(first.read_s, last.read_s)
        counted_bytes = sum(last.carried_bytes) - sum(first.carried_bytes)
        return counted_bytes / carried_bytes - 1 if carried_bytes else None
