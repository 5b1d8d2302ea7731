"""The embedded workload: a generator fitted to the published shape of the Mooncake conversation trace.

The trace itself is not shipped. What is embedded are quantiles of its lengths and of its prefix sharing, measured on
the 12,031 requests of `conversation_trace.jsonl` (Mooncake FAST25 release, Apache-2.0). A request either continues an
earlier one (it shares a long prefix with it) or starts afresh; lengths are drawn from the matching quantile table by
linear interpolation. `tests/test_workloads.py` holds the fit against those figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads.request import BLOCK_TOKENS, Request, WorkloadError

PERCENTILES = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)


@dataclass(frozen=True)
class Profile:
    """The distributions of a workload. Every table gives the values at `PERCENTILES`.

    `continues`: share of requests that extend an earlier one; such a request takes its length from `continued_input`,
    shares `shared_fraction` of its blocks, and goes back `reuse_distance` requests. `documents`: where above 0, a
    continuing request shares its prefix with one of that many documents (Zipf, exponent 1) instead.
    """

    name: str
    source: str
    fresh_input: tuple[float, ...]
    continued_input: tuple[float, ...]
    output: tuple[float, ...]
    continues: float
    shared_fraction: tuple[float, ...]
    reuse_distance: tuple[float, ...]
    documents: int = 0


_CONVERSATION_SHARE = (0.015, 0.143, 0.286, 0.5, 0.6, 0.7, 0.8, 0.867, 0.917, 0.944, 0.971, 0.983, 1.0, 1.0)
_CONVERSATION_DISTANCE = (10, 110, 141, 200, 265, 340, 422, 540, 760, 1060, 1660, 2500, 5100, 9000)
_CONVERSATION_OUTPUT = (1, 10, 24, 100, 213, 291, 350, 399, 447, 504, 597, 698, 1119, 2000)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="conversation",
            source="quantiles of the Mooncake conversation trace (FAST25 release)",
            fresh_input=(891, 897, 905, 1092, 1757, 3913, 5264, 7418, 10771, 15871, 25559, 38494, 89868, 126195),
            continued_input=(892, 1634, 2102, 3455, 5502, 7507, 9873, 12556, 15780, 20219, 28908, 40992, 79133, 123194),
            output=_CONVERSATION_OUTPUT,
            continues=0.387,
            shared_fraction=_CONVERSATION_SHARE,
            reuse_distance=_CONVERSATION_DISTANCE,
        ),
    )
}


def generate(profile_name: str, count: int, rate_rps: float, rng: np.random.Generator) -> list[Request]:
    """Draw `count` requests of a profile with Poisson arrivals at `rate_rps`. WorkloadError for an unknown profile."""
    if profile_name not in PROFILES:
        raise WorkloadError(f"profile: {profile_name!r} is not one of {', '.join(PROFILES)}")
    profile = PROFILES[profile_name]
    arrival_s = np.cumsum(rng.exponential(1 / rate_rps, count))
    output = np.maximum(_draw(profile.output, count, rng), 1)
    fresh = _draw(profile.fresh_input, count, rng)
    continued = _draw(profile.continued_input, count, rng)
    share = _draw(profile.shared_fraction, count, rng)
    # An endless past: a continuing request whose parent lies before the first request extends an unseen one.
    blocks = _Blocks(profile, rng)
    requests = []
    for k in range(count):
        if rng.random() < profile.continues:
            length = round(float(continued[k]))
            ids = blocks.extend(k, math.ceil(length / BLOCK_TOKENS), float(share[k]))
        else:
            length = round(float(fresh[k]))
            ids = blocks.start(math.ceil(length / BLOCK_TOKENS))
        requests.append(Request(k, float(arrival_s[k] - arrival_s[0]), length, round(float(output[k])), ids))
    return requests


class _Blocks:
    """Prefix-block ids: every request opens with block 0 (the system prompt), as in the trace."""

    SYSTEM_PROMPT = 0
    TRIES = 200

    def __init__(self, profile: Profile, rng: np.random.Generator) -> None:
        self._profile = profile
        self._rng = rng
        self._next = 1
        self._past: list[tuple[int, ...]] = []
        self._documents: dict[int, tuple[int, ...]] = {}

    def start(self, count: int) -> tuple[int, ...]:
        return self._remember((self.SYSTEM_PROMPT, *self._fresh(count - 1)))

    def extend(self, position: int, count: int, share: float) -> tuple[int, ...]:
        shared = max(min(round(share * count), count), 1)
        parent = self._document(shared) if self._profile.documents else self._parent(position, shared)
        kept = parent[:shared]
        return self._remember((*kept, *self._fresh(count - len(kept))))

    def _parent(self, position: int, shared: int) -> tuple[int, ...]:
        """An earlier request at about the drawn distance with at least `shared` blocks; else the longest looked at."""
        best: tuple[int, ...] = (self.SYSTEM_PROMPT,)
        distance = float(_draw(self._profile.reuse_distance, 1, self._rng)[0])
        for step in range(self.TRIES):
            at = position - max(round(distance), 1) + step
            if 0 <= at < position:
                candidate = self._past[at]
                if len(candidate) >= shared:
                    return candidate
                best = max(best, candidate, key=len)
        return best

    def _document(self, shared: int) -> tuple[int, ...]:
        ranks = np.arange(1, self._profile.documents + 1)
        weights = 1 / ranks
        document = int(self._rng.choice(ranks, p=weights / weights.sum()))
        known = self._documents.get(document, (self.SYSTEM_PROMPT,))
        if len(known) < shared:
            known = (*known, *self._fresh(shared - len(known)))
            self._documents[document] = known
        return known

    def _fresh(self, count: int) -> range:
        first = self._next
        self._next += max(count, 0)
        return range(first, self._next)

    def _remember(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        self._past.append(ids)
        return ids


def _draw(table: tuple[float, ...], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return np.interp(rng.uniform(0, 100, count), PERCENTILES, table)
