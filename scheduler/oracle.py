"""The network cost oracle on the scheduler's side: a validated telemetry snapshot of link utilisation, and its age.

Owns the `netkv.cost/v1` document (what is accepted, what is refused) and the staleness stage. Who measures and how the
document travels is the controller's and the world's business; the clock is the caller's.
"""

from __future__ import annotations

import reprlib
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scheduler.arrays import Floats

SCHEMA = "netkv.cost/v1"

MOST_UTILISATION = 1.5
"""A utilisation beyond this is a broken measurement: a shaped link's counter can overshoot its rate by a burst only."""

LARGEST_NUMBER = 1e15
"""No clock or ratio reaches it; it also refuses whole numbers that no float can hold."""


class OracleError(ValueError):
    """An invalid cost document; the message names the field or link and the reason."""


@dataclass(frozen=True, slots=True)
class NetworkSample:
    """A telemetry snapshot: utilisation of every directed link (0 idle, 1 full), shape [links] in the fabric's order.

    `sampled_s`: the time of the measurement on the caller's clock, seconds of the real system.
    """

    sampled_s: float
    utilisation: Floats

    def age_s(self, now_s: float) -> float:
        """Seconds since the measurement."""
        return now_s - self.sampled_s


def parse_document(document: Mapping[str, Any], link_names: Sequence[str]) -> NetworkSample:
    """Turn a `netkv.cost/v1` document into a sample on the document's monotonic clock.

    Raises OracleError when the schema differs, a link of the fabric is missing, or a number is not finite, negative or
    absurd. Links the fabric does not have are refused too: the document describes some other fabric. A link in
    `links_down` counts as full, whatever its counter says: it has no bandwidth left.
    """
    if not isinstance(document, Mapping):
        raise OracleError(f"document: an object was expected, not {type(document).__name__}")
    if document.get("schema") != SCHEMA:
        raise OracleError(f"schema: {reprlib.repr(document.get('schema'))} is not {SCHEMA!r}")
    sampled_s = _number("sampled_monotonic_s", document.get("sampled_monotonic_s"))
    links, down = document.get("links"), document.get("links_down", ())
    if not isinstance(links, Mapping):
        raise OracleError("links: an object of links was expected")
    utilisation = np.empty(len(link_names))
    for at, name in enumerate(link_names):
        entry = links.get(name)
        if not isinstance(entry, Mapping):
            raise OracleError(f"links: {name}: missing")
        utilisation[at] = value = _number(f"links: {name}: utilisation", entry.get("utilisation"))
        if value > MOST_UTILISATION:
            raise OracleError(f"links: {name}: utilisation: {value} is beyond {MOST_UTILISATION}")
    if len(links) > len(link_names):
        stranger = min(set(links) - set(link_names), key=str)
        raise OracleError(f"links: {stranger[:80]}: no such link in this fabric")
    if not isinstance(down, Sequence) or not all(isinstance(name, str) for name in down):
        raise OracleError("links_down: a list of links was expected")
    if cut := set(down):
        utilisation[[name in cut for name in link_names]] = 1.0
    return NetworkSample(sampled_s, np.minimum(utilisation, 1.0))


def _number(place: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OracleError(f"{place}: {reprlib.repr(value)} is not a number")
    if not 0 <= value <= LARGEST_NUMBER:  # NaN too
        raise OracleError(f"{place}: {reprlib.repr(value)} is negative, not finite or absurd")
    return float(value)


class StalenessStage:
    """Holds one snapshot and replaces it every `refresh_s` at most; between refreshes the snapshot only gets older.

    A refused or older document never replaces a newer sample, and never makes the held one look fresh. `refresh_s` may
    be infinite: one sample, then none. On its way each sample meets, in this order, `noise` (every link's utilisation
    times a lognormal factor of that sigma, median 1), `smoothing_s` (exponentially weighted average of the samples, 0:
    the last one as it is), `loss` (the probability that it never arrives) and `delay_s` (it arrives that much later).
    None of them touches `sampled_s`: a delayed sample is older. `rng` draws the noise and the losses.
    While `frozen` is set nothing arrives and what is offered is lost, while `corrupted` is set what is offered is
    damaged and must be refused; `extra_delay_s` adds to the delay of what is offered meanwhile.
    """

    def __init__(
        self,
        refresh_s: float,
        *,
        delay_s: float = 0.0,
        loss: float = 0.0,
        noise: float = 0.0,
        smoothing_s: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.refresh_s = refresh_s
        self._delay_s = delay_s
        self._loss = loss
        self._noise = noise
        self._smoothing_s = smoothing_s
        self._rng = rng or np.random.default_rng(0)
        self._smooth: NetworkSample | None = None
        self._under_way: list[tuple[float, NetworkSample]] = []
        self.frozen = False
        self.corrupted = False
        self.extra_delay_s = 0.0
        self._held: NetworkSample | None = None
        self._next_s = -np.inf

    def due(self, now_s: float) -> bool:
        """Whether it is time to fetch a new sample."""
        return now_s >= self._next_s

    def next_due_s(self) -> float:
        """When the next sample is to be fetched; infinite after the only one."""
        return float(self._next_s)

    def offer(self, sample: NetworkSample | None, now_s: float) -> bool:
        """Take a sample if one is due; `None` (nothing could be read) uses the turn up. True if one was adopted."""
        if not self.due(now_s):
            return False
        self._next_s = (now_s if self._next_s == -np.inf else self._next_s) + self.refresh_s
        if self._next_s <= now_s:  # turns were missed: the next one is counted from now
            self._next_s = now_s + self.refresh_s
        if sample is not None and not self.frozen:
            sample = self._smoothed(self._measured(sample))
            lost = self._loss and self._rng.random() < self._loss
            if not lost:
                arrives_s = now_s + self._delay_s + self.extra_delay_s
                insort(self._under_way, (arrives_s, sample), key=lambda arriving: arriving[0])
        return self.deliver(now_s)

    def deliver(self, now_s: float) -> bool:
        """Adopt what has arrived until now. True if that changed what is held."""
        adopted = False
        while self._under_way and self._under_way[0][0] <= now_s and not self.frozen:
            _, sample = self._under_way.pop(0)
            if self._held is None or sample.sampled_s > self._held.sampled_s:
                self._held = sample
                adopted = True
        return adopted

    @property
    def held(self) -> NetworkSample | None:
        """The snapshot that the scheduler uses; None before the first."""
        return self._held

    def _measured(self, sample: NetworkSample) -> NetworkSample:
        if not self._noise:
            return sample
        factor = np.exp(self._noise * self._rng.standard_normal(len(sample.utilisation)))
        return NetworkSample(sample.sampled_s, np.minimum(sample.utilisation * factor, 1.0))

    def _smoothed(self, sample: NetworkSample) -> NetworkSample:
        before = self._smooth
        if not self._smoothing_s:
            return sample
        if before is not None:
            weight = -np.expm1(-max(sample.sampled_s - before.sampled_s, 0.0) / self._smoothing_s)
            utilisation = before.utilisation + weight * (sample.utilisation - before.utilisation)
            sample = NetworkSample(sample.sampled_s, utilisation)
        self._smooth = sample
        return sample
