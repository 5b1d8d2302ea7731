"""The figure of claim C1 (docs/explanation/theory.md): how much worse cache-aware-only gets as the context grows.

`python -m experiments.drawing.theory_figure DIR` writes theory-c1.png and theory-c1.svg into DIR.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from experiments.analysis import herd_ratio, single_ratio
from experiments.drawing.static_style import paper, put_title, save_figure
from scenario import ModelSpec

CACHED_TOKENS, NIC_BPS = 512, 25e9
"""Tokens that the holder of the prefix has cached; bytes per second of a network interface."""

FIXED_S, GAP_S = 0.030, 0.1
"""What both instances pay beside the transfer; time between two requests that share a block."""

FOREIGN_FLOWS, REQUESTS = (1, 3, 9, 29), (2, 4, 8, 16)
LINES = (("#0072B2", "-", "o"), ("#009E73", "--", "s"), ("#E69F00", "-.", "^"), ("#D55E00", ":", "D"))
"""Colour, dash and marker of the four lines of a panel."""


def draw_theory(out: Path) -> list[Path]:
    """Both families of ratios over the context length, as PNG and SVG in the folder `out`."""
    kappa = ModelSpec().kv_bytes_per_token
    tokens = [2**k for k in range(10, 21)]
    with paper():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
        for flows, (colour, dash, marker) in zip(FOREIGN_FLOWS, LINES, strict=True):
            holder_Bps = NIC_BPS / (1 + flows)
            ratios = [single_ratio(n, CACHED_TOKENS, kappa, holder_Bps, NIC_BPS, FIXED_S) for n in tokens]
            label = f"{flows} other flow{'s' if flows > 1 else ''}: limit {1 + flows}"
            left.plot(tokens, ratios, color=colour, linestyle=dash, marker=marker, label=label)
        for requests, (colour, dash, marker) in zip(REQUESTS, LINES, strict=True):
            ratios = [herd_ratio(requests, n, CACHED_TOKENS, kappa, NIC_BPS, GAP_S) for n in tokens]
            label = f"{requests} requests: limit {requests}"
            right.plot(tokens, ratios, color=colour, linestyle=dash, marker=marker, label=label)
        left.set_title("One decision, a congested holder")
        right.set_title(f"Requests that share a block, one every {GAP_S:g} s")
        for axis in (left, right):
            axis.set(xscale="log", yscale="log", xlabel="Context (tokens)", ylim=(0.4, 60))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.axhline(1, color="#000000", lw=0.8, zorder=1)
            axis.grid()
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize=8)
        left.set_ylabel("Cost of cache-aware-only over NetKV (ratio)")
        put_title(figure, "How much worse is cache-aware-only as the context grows (C1)?", "Above 1: NetKV costs less.")
        return save_figure(figure, out / "theory-c1")


def main(arguments: list[str]) -> int:
    """Draw into the folder that the first argument names, else the current one."""
    print(draw_theory(Path(arguments[0] if arguments else "."))[0])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
