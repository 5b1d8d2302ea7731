"""A picture of the fabric: the four levels of switches, the instances below them and every cable."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from experiments.drawing.fabric_layout import LEVEL_NAMES, level_height, place_nodes
from experiments.drawing.static_style import paper
from experiments.drawing.style import NODE_COLOURS
from topologies import Fabric, Roles


def draw_fabric(fabric: Fabric, roles: Roles, out: Path) -> Path:
    """Draw the fabric into a file whose ending names the format."""
    places = place_nodes(fabric)
    width = len(fabric.instances)
    with paper(), plt.rc_context({"font.size": 9}):
        figure, axis = plt.subplots(figsize=(max(8.0, width * 0.62), 5.2))
        fastest_bps = max(link.capacity_bps for link in fabric.links)
        for link in fabric.links[::2]:
            (x0, y0), (x1, y1) = places[link.source], places[link.target]
            thickness = 0.5 + 2.5 * (link.capacity_bps / fastest_bps) ** 0.35
            axis.plot([x0, x1], [y0, y1], color="#9a9a9a", linewidth=thickness, zorder=1)
        for switch in fabric.switches:
            _box(axis, *places[switch.name], switch.name, NODE_COLOURS["switch"], width)
        for instance in fabric.instances:
            colour = NODE_COLOURS["prefill" if instance.index in roles.prefill else "decode"]
            _box(axis, *places[instance.name], instance.name, colour, width)
        _label_levels(axis, fabric, width)
        axis.set_xlim(-4.4, width - 0.2)
        axis.set_ylim(-0.75, 4.4)
        axis.axis("off")
        for kind in ("prefill", "decode"):
            axis.scatter([], [], marker="s", s=90, color=NODE_COLOURS[kind], label=f"{kind} instance")
        axis.legend(loc="lower center", ncols=2, frameon=False, bbox_to_anchor=(0.5, -0.06))
        figure.tight_layout()
        figure.savefig(out, dpi=150, metadata={"Date": None} if out.suffix == ".svg" else None)
        plt.close(figure)
    return out


def _box(axis: Axes, x: float, y: float, name: str, colour: str, width: int) -> None:
    size = 8 if width <= 32 else 4
    axis.text(
        x, y, name, ha="center", va="center", color="white", fontsize=size, zorder=2,
        bbox={"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "white"},
    )  # fmt: skip


def _label_levels(axis: Axes, fabric: Fabric, width: int) -> None:
    spec = fabric.spec
    rates = {
        0.5: f"NVLink {spec.nvlink_rate_bps / 1e9:g} Gbit/s",
        1.5: f"NIC {spec.nic_rate_bps / 1e9:g} Gbit/s",
        2.5: f"{spec.tor_uplink_rate_bps / 1e9:g} Gbit/s a link ({spec.tor_oversubscription:g}:1)",
        3.5: f"{spec.core_uplink_rate_bps / 1e9:g} Gbit/s a link ({spec.aggregation_oversubscription:g}:1)",
    }
    for level, name in LEVEL_NAMES.items():
        axis.text(-4.3, level_height(level), name, va="center", fontweight="bold")
    axis.text(-4.3, 0, "instance", va="center", fontweight="bold")
    for height, text in rates.items():
        axis.text(-4.3, height, text, va="center", color="#555555", fontsize=8)
