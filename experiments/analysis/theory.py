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


def largest_error(
    capacity: Sequence[float], utilisation: Sequence[float], floor: Sequence[float] | None = None
) -> float:
    """The error of utilisations below which their order by bandwidth left cannot change, and at which it can.

    A tier has max(A_t, F_t) left, F_t its `floor` (0 unless given), and no error takes a utilisation out of [0, 1]. The
    least of `largest_error_of_pair` over tiers adjacent in that order; infinite if no error can change it.
    """
    floors = [0.0] * len(capacity) if floor is None else floor
    left = [max(rest, least) for rest, least in zip(available(capacity, utilisation), floors, strict=True)]
    order = sorted(range(len(left)), key=lambda tier: -left[tier])
    tiers = list(zip(capacity, utilisation, floors, strict=True))
    return min(largest_error_of_pair(tiers[i], tiers[j]) for i, j in pairwise(order))


def largest_error_of_pair(better: tuple[float, float, float], worse: tuple[float, float, float]) -> float:
    """The same for two tiers, each (capacity C, utilisation u, floor F); i is the one with more left.

    An error e leaves at least max(A_i - C_i e, F_i) of i and at most max(min(A_j + C_j e, C_j), F_j) of j. They meet at

        max(min(max((A_i - A_j) / (C_i + C_j), (A_i - C_j) / C_i), (A_i - F_j) / C_i), (F_i - A_j) / C_j)

    and never if F_i >= C_j. The second term is where u_j cannot fall any further.
    """
    (c_i, u_i, f_i), (c_j, u_j, f_j) = better, worse
    if f_i >= c_j:
        return math.inf
    a_i, a_j = c_i * (1 - u_i), c_j * (1 - u_j)
    without_floors = max((a_i - a_j) / (c_i + c_j), (a_i - c_j) / c_i)
    down_to_the_other = min(without_floors, (a_i - f_j) / c_i)
    up_to_the_one = (f_i - a_j) / c_j if f_i > f_j else 0.0
    return max(down_to_the_other, up_to_the_one, 0.0)


def largest_error_of_cost(
    kv_bytes: float, capacity: Sequence[float], utilisation: Sequence[float], latency_s: Sequence[float]
) -> float:
    """The same for the order by l_t + b / A_t: the least error at which some pair of tiers may cost the same.

    For a pair with cost_i < cost_j it is where l_i + b / (A_i - C_i e) = l_j + b / (A_j + C_j e): the left side grows
    with e and the right side falls until u_j is 0, so bisection finds the one crossing. Without a floor.
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
                rest_i, rest_j = left[i] - capacity[i] * error, min(left[j] + capacity[j] * error, capacity[j])
                if rest_i > 0 and latency_s[i] + kv_bytes / rest_i < latency_s[j] + kv_bytes / rest_j:
                    low = error
                else:
                    high = error
            least = min(least, low)
    return least


def order_is_certain(better: tuple[float, float], worse: tuple[float, float], competitors: float) -> bool:
    """Whether the floor alone keeps two tiers in order, whatever their utilisations: at any age of the sample.

    Each (capacity C, own transfers in flight n). With b foreign `competitors` what is left of a tier lies within
    [C / (1 + n + b), C / (1 + n)] (`scheduler.View.available_Bps`), so C_i / C_j >= (1 + n_i + b) / (1 + n_j) suffices.
    """
    (c_i, n_i), (c_j, n_j) = better, worse
    return c_i * (1 + n_j) >= c_j * (1 + n_i + competitors)


def longest_staleness_s(error: float, rate_per_s: float, transfer_s: float = 0.0) -> float:
    """How old a sample may be at a decision before utilisations that change by at most `rate_per_s` err by `error`.

    A decision has to hold until its transfer ends, so the duration of that, `transfer_s`, is part of the age that
    counts. Never below 0.
    """
    return max(error / rate_per_s - transfer_s, 0.0) if rate_per_s > 0 else math.inf
