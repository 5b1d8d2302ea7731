"""The paper's two theorems as formulas of our own: how bad cache-aware-only can be, and how stale telemetry may be.

Derivations are in docs/explanation/theory.md, the proofs by example in tests/unit/experiments/test_theory.py.
`experiments.drawing.theory_figure` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

# -- C1: cache-aware-only against NetKV ---------------------------------------------------------------------------


def single_ratio(
    tokens: float, cached: float, kappa: float, holder_Bps: float, other_Bps: float, fixed_s: float
) -> float:
    """Cost of the instance that holds `cached` tokens over that of one that holds none, for a prompt of `tokens`.

    rho(n) = (F + kappa (n - c) / B_a) / (F + kappa n / B_b); F is what both pay beside the transfer, seconds.
    """
    return (fixed_s + kappa * (tokens - cached) / holder_Bps) / (fixed_s + kappa * tokens / other_Bps)


def tokens_beyond(
    ratio: float, cached: float, kappa: float, holder_Bps: float, other_Bps: float, fixed_s: float
) -> float:
    """The context above which `single_ratio` exceeds `ratio`: infinite unless `ratio` < B_b / B_a."""
    slope = 1 / holder_Bps - ratio / other_Bps
    return ((ratio - 1) * fixed_s + kappa * cached / holder_Bps) / (kappa * slope) if slope > 0 else math.inf


def herd_ratio(requests: int, tokens: float, cached: float, kappa: float, nic_Bps: float, gap_s: float) -> float:
    """The last of `requests`, one every `gap_s`, all sent to the one holder, against each to an instance of its own.

    R(n) = K (1 - c / n) - (K - 1) T B / (kappa n), once a transfer lasts longer than a gap; it grows to K with n.
    """
    alone_s = kappa * tokens / nic_Bps
    herded_s = kappa * (tokens - cached) / nic_Bps
    return max(requests * herded_s - (requests - 1) * gap_s, herded_s) / alone_s


# -- C3: the order of the tiers under stale utilisation ---------------------------------------------------------------


def available(capacity: Sequence[float], utilisation: Sequence[float]) -> list[float]:
    """What is left of each tier: A_t = C_t (1 - u_t)."""
    return [c * (1 - u) for c, u in zip(capacity, utilisation, strict=True)]


def largest_error(capacity: Sequence[float], utilisation: Sequence[float]) -> float:
    """The error of utilisations below which their order by bandwidth left cannot change, and at which it can.

    eps* = min over tiers adjacent in that order of (A_i - A_j) / (C_i + C_j).
    """
    left = available(capacity, utilisation)
    order = sorted(range(len(left)), key=lambda tier: -left[tier])
    return min((left[i] - left[j]) / (capacity[i] + capacity[j]) for i, j in pairwise(order))


def largest_error_of_cost(
    kv_bytes: float, capacity: Sequence[float], utilisation: Sequence[float], latency_s: Sequence[float]
) -> float:
    """The same for the order by l_t + b / A_t: the least error at which some pair of tiers may cost the same.

    For a pair with cost_i < cost_j it is where l_i + b / (A_i - C_i e) = l_j + b / (A_j + C_j e): the left side grows
    with e and the right side falls, so bisection finds the one crossing.
    """
    left = available(capacity, utilisation)
    cost = [latency + kv_bytes / rest for latency, rest in zip(latency_s, left, strict=True)]
    order = sorted(range(len(cost)), key=lambda tier: cost[tier])
    least = math.inf
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            low, high = 0.0, left[i] / capacity[i]
            for _ in range(200):
                error = (low + high) / 2
                rest_i, rest_j = left[i] - capacity[i] * error, left[j] + capacity[j] * error
                if rest_i > 0 and latency_s[i] + kv_bytes / rest_i < latency_s[j] + kv_bytes / rest_j:
                    low = error
                else:
                    high = error
            least = min(least, low)
    return least


def longest_staleness_s(error: float, rate_per_s: float) -> float:
    """How old a sample may get before utilisations that change by at most `rate_per_s` can err by `error`."""
    return error / rate_per_s if rate_per_s > 0 else math.inf
