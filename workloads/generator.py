"""The embedded workload: requests drawn from a profile's distributions.

A request either continues an earlier one, with which it shares a long prefix, or starts a new conversation; lengths are
drawn from the matching table. `tests/unit/workloads/test_workload_profiles.py` compares what is drawn with the figures
that `profiles` states.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from workloads.profiles import PERCENTILES, PROFILES, Profile, Table
from workloads.request import BLOCK_TOKENS, Request, WorkloadError

Floats = NDArray[np.float64]


def generate(
    profile_name: str,
    count: int,
    rate_rps: float,
    rng: np.random.Generator,
    sharing: float | None = None,
    lengths: Table | None = None,
) -> list[Request]:
    """Draw `count` requests of a profile with Poisson arrivals at `rate_rps` requests/s, the first at 0 s.

    `sharing`, 0-1, replaces the profile's share of continuing requests; `lengths`, tokens, both tables of its prompts.
    WorkloadError for an unknown profile.
    """
    if profile_name not in PROFILES:
        raise WorkloadError(f"profile: {profile_name!r} is not one of {', '.join(PROFILES)}")
    profile = PROFILES[profile_name]
    if lengths is not None:
        profile = replace(profile, first_input=lengths, continued_input=lengths)
    arrival_s = np.cumsum(rng.exponential(1 / rate_rps, count))
    output = _at(profile.output, rng.uniform(0, 100, count))
    first = _at(profile.first_input, rng.uniform(0, 100, count))
    rank = rng.uniform(0, 100, count)
    continued = _at(profile.continued_input, rank)
    like_length = rng.random(count) < profile.coupling
    shared = _at(profile.shared_fraction, np.where(like_length, rank, rng.uniform(0, 100, count)))
    continuing = rng.random(count) < (profile.continues if sharing is None else sharing)
    past = _Documents(profile, count, rng) if profile.documents else _Conversations(profile, count, rng)
    requests = []
    for k in range(count):
        continues = bool(continuing[k]) and past.reaches(k)
        length = round(float(continued[k] if continues else first[k]))
        blocks = math.ceil(length / BLOCK_TOKENS)
        prefix = past.prefix(k, min(max(round(float(shared[k]) * blocks), 2), blocks)) if continues else SYSTEM_PROMPT
        ids = past.remember((*prefix, *past.new_blocks(blocks - len(prefix))))
        requests.append(Request(k, float(arrival_s[k] - arrival_s[0]), length, round(float(output[k])), ids))
    return requests


SYSTEM_PROMPT = (0,)
"""Every request opens with block 0, as in the trace."""


class _Past:
    """The prefix blocks that exist: where a continuing request takes its first blocks from, and new block ids."""

    def __init__(self) -> None:
        self._next = 1

    def new_blocks(self, count: int) -> range:
        first = self._next
        self._next += max(count, 0)
        return range(first, self._next)

    def reaches(self, position: int) -> bool:
        """Whether a continuing request number `position` finds something to continue."""
        raise NotImplementedError

    def prefix(self, position: int, blocks: int) -> tuple[int, ...]:
        """Up to `blocks` leading blocks of what the request continues."""
        raise NotImplementedError

    def remember(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        return ids


class _Conversations(_Past):
    """A request continues an earlier one, at about a drawn distance; before the first request there is none."""

    REACH = 2000
    """Range around the drawn distance in which a long enough parent is searched, requests."""

    def __init__(self, profile: Profile, count: int, rng: np.random.Generator) -> None:
        super().__init__()
        distance = _at(profile.reuse_distance, rng.uniform(0, 100, count))
        self._target = np.arange(count) - np.maximum(distance.round().astype(np.int64), 1)
        self._past: list[tuple[int, ...]] = []
        self._open_blocks = np.zeros(count, dtype=np.int64)  # 0 for requests that are continued already

    def reaches(self, position: int) -> bool:
        return bool(self._target[position] >= 0)

    def prefix(self, position: int, blocks: int) -> tuple[int, ...]:
        """Blocks of the request nearest to the drawn one that has that many, else of the longest one in range.

        No later request continues it: 4,632 of 4,645 parents in the trace have one child.
        """
        target = int(self._target[position])
        first = max(target - self.REACH, 0)
        in_range = self._open_blocks[first : min(target + self.REACH, position)]
        enough = np.flatnonzero(in_range >= blocks)
        at = first + int(enough[np.abs(enough + first - target).argmin()] if len(enough) else in_range.argmax())
        self._open_blocks[at] = 0
        return self._past[at][:blocks]

    def remember(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        self._open_blocks[len(self._past)] = len(ids)
        self._past.append(ids)
        return ids


class _Documents(_Past):
    """A request asks about one of a fixed number of documents, some far more popular than others."""

    def __init__(self, profile: Profile, count: int, rng: np.random.Generator) -> None:
        super().__init__()
        weights = np.arange(1, profile.documents + 1) ** -profile.document_skew
        self._document_of = rng.choice(profile.documents, size=count, p=weights / weights.sum())
        self._known: dict[int, tuple[int, ...]] = {}

    def reaches(self, position: int) -> bool:
        return True

    def prefix(self, position: int, blocks: int) -> tuple[int, ...]:
        document = int(self._document_of[position])
        known = self._known.get(document, SYSTEM_PROMPT)
        known = self._known[document] = (*known, *self.new_blocks(blocks - len(known)))
        return known[:blocks]


def _at(table: Table, percent: Floats) -> Floats:
    """The table's value at each percentile, geometric between its points: lengths have long tails."""
    values: Floats = np.exp(np.interp(percent, PERCENTILES, np.log(table)))
    return values
