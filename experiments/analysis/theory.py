"""The paper's two theorems as formulas of our own: how bad cache-aware-only can be, and how stale telemetry may be.

Derivations are in docs/theory.md, the proofs by example in tests/unit/experiments/test_theory.py.
`python -m experiments.analysis.theory DIR` draws the figure.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from scenario import ModelSpec

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


def draw(out: Path) -> list[Path]:
    """The figure of C1: both families over the context length, as PNG and SVG."""
    import matplotlib.pyplot as plt

    from experiments.drawing import paper, put_title, save_figure

    kappa, cached, nic_Bps = ModelSpec().kv_bytes_per_token, 512, 25e9
    tokens = [2**k for k in range(10, 21)]
    looks = (("#0072B2", "-", "o"), ("#009E73", "--", "s"), ("#E69F00", "-.", "^"), ("#D55E00", ":", "D"))
    with paper():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
        for foreign, (colour, dash, marker) in zip((1, 3, 9, 29), looks, strict=True):
            holder_Bps = nic_Bps / (1 + foreign)
            ratios = [single_ratio(n, cached, kappa, holder_Bps, nic_Bps, 0.030) for n in tokens]
            label = f"{foreign} foreign flow{'s' if foreign > 1 else ''}: limit {1 + foreign}"
            left.plot(tokens, ratios, color=colour, linestyle=dash, marker=marker, label=label)
        for requests, (colour, dash, marker) in zip((2, 4, 8, 16), looks, strict=True):
            ratios = [herd_ratio(requests, n, cached, kappa, nic_Bps, 0.1) for n in tokens]
            label = f"{requests} requests: limit {requests}"
            right.plot(tokens, ratios, color=colour, linestyle=dash, marker=marker, label=label)
        left.set_title("One decision, a congested holder")
        right.set_title("Requests that share a block, one every 0.1 s")
        for axis in (left, right):
            axis.set(xscale="log", yscale="log", xlabel="Context (tokens)", ylim=(0.4, 60))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.grid()
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize=8)
        left.set_ylabel("Cost of cache-aware-only over NetKV (ratio)")
        put_title(figure, "How much worse is cache-aware-only as the context grows (C1)?", "")
        return save_figure(figure, out / "theory-c1")


if __name__ == "__main__":
    print(draw(Path(sys.argv[1] if len(sys.argv) > 1 else "."))[0])
