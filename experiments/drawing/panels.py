"""The pictures that questions share: heat maps, lines over what was varied, and bars. In the style of `figures`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from experiments.drawing.style import FAINT, paper, put_title, save_figure, style_of

COLOURS = "PuOr_r"
"""Diverging and colour-blind-safe (ColorBrewer): orange above zero, purple below."""

NEVER_AT = 3.0
"""An interval that never ends is drawn this many times right of the longest that does."""

HATCHED, NOT_RUN = "#b5b5b5", "#ececec"
"""Of cells that may be zero, and of those that nobody ran."""

LEAST_HEIGHT = 0.1
"""An axis is never so near that nothing looks like much: it spans this part of its largest value."""


@dataclass(frozen=True)
class Panel:
    """One quantity over what was varied: columns of its value and its band, what its axis says, and its scale.

    `zero`: the axis has its zero, marked.
    """

    value: str
    low: str | None
    high: str | None
    label: str
    scale: float = 1.0
    zero: bool = False


TTFT = Panel("ttft_ms", "ttft_low_ms", "ttft_high_ms", "Mean time to first token (ms)")
TBT = Panel("tpot_ms", "tpot_low_ms", "tpot_high_ms", "Mean time between tokens (ms)")
SLO = Panel("slo_attainment", "slo_low", "slo_high", "Requests within their SLO (%)", 100)


def with_paired_bands(results: pd.DataFrame, percent: str = "ttft_change") -> pd.DataFrame:
    """`band_low` and `band_high`: the interval of a paired change laid on the mean TTFT that it starts from.

    Requests differ far more than policies do, so that only pairs of them say anything.
    """
    base = results["ttft_ms"] / (1 + results[f"{percent}_percent"] / 100)
    sides = {f"band_{side}": base * (1 + results[f"{percent}_{side}"] / 100) for side in ("low", "high")}
    return results.assign(**sides)


PAIRED_TTFT = Panel("ttft_ms", "band_low", "band_high", "Mean time to first token (ms)")
"""With the bands of `with_paired_bands`."""


def line_panels(
    results: pd.DataFrame, panels: Sequence[Panel], at: str, axis_name: str, title: str, note: str, place: Path,
    *, series: Sequence[str] = (), log: bool = False, ticks: Callable[[float], str] = "{:g}".format,
) -> list[Path]:  # fmt: skip
    """A row of panels a world, a line a policy over the column `at`; a policy without a value there is a flat line.

    `series`: the policies in the order of the legend (empty: as they come).
    """
    worlds = list(dict.fromkeys(results["world"]))
    policies = [name for name in series if name in set(results["policy"])] or list(dict.fromkeys(results["policy"]))
    values = sorted(results[at].dropna().unique())
    never = NEVER_AT * max((value for value in values if math.isfinite(value)), default=1.0)
    with paper():
        figure, axes = plt.subplots(
            len(worlds), len(panels), figsize=(3.5 * len(panels), 0.9 + 3.0 * len(worlds)),
            squeeze=False, sharex=True, layout="constrained",
        )  # fmt: skip
        for row, world in zip(axes, worlds, strict=True):
            of_world = results[results["world"] == world]
            for axis, panel in zip(row, panels, strict=True):
                for policy in policies:
                    _draw_line(axis, of_world[of_world["policy"] == policy], policy, panel, at, never)
                _finish(axis, panel, log)
                axis.set_xlabel(axis_name)
                axis.tick_params(labelbottom=True)
                axis.set_xticks([min(value, never) for value in values], [ticks(value) for value in values])
                axis.minorticks_off()
            row[0].set_title(f"{world} world")
        put_title(figure, title, note, axes[0][0])
        return save_figure(figure, place)


def _draw_line(axis: Axes, rows: pd.DataFrame, policy: str, panel: Panel, at: str, never: float) -> None:
    style = style_of(policy)
    swept = rows.dropna(subset=[at]).sort_values(at)
    known = swept.dropna(subset=[panel.value])
    if len(known):
        places = known[at].clip(upper=never)
        axis.plot(
            places, panel.scale * known[panel.value], color=style.colour, linestyle=style.dash, marker=style.marker,
            label=style.label, zorder=3,
        )  # fmt: skip
        if panel.low is not None and panel.high is not None:
            band = panel.scale * known[panel.low], panel.scale * known[panel.high]
            axis.fill_between(places, *band, color=style.colour, alpha=0.15, lw=0)
    elif len(rows) and not len(swept):
        level = panel.scale * float(rows[panel.value].iloc[0])
        axis.axhline(level, color=style.colour, linestyle=style.dash, label=style.label)


def _finish(axis: Axes, panel: Panel, log: bool) -> None:
    axis.set_ylabel(panel.label)
    axis.grid(axis="y")
    if log:
        axis.set_xscale("log")
    if panel.zero:
        above = axis.dataLim.ymin >= 0
        axis.axhline(0, color="#000000", lw=0.8, zorder=1)
        axis.margins(y=0.08)
        if above:
            axis.set_ylim(bottom=0)
    if panel.value == SLO.value:
        axis.set_ylim(max(axis.get_ylim()[0] - 5, 0), 101)
    elif not panel.zero:
        low, high = axis.get_ylim()
        spare = max(LEAST_HEIGHT * high - (high - low), 0) / 2
        axis.set_ylim(max(low - spare, 0), high + spare)


def heat_maps(
    cells: pd.DataFrame, at: tuple[str, str], axis_names: tuple[str, str], colour_name: str, title: str, note: str,
    place: Path, *, ticks: Callable[[float], str] = "{:g}".format,
) -> list[Path]:  # fmt: skip
    """A heat map a world (down) and workload (across): `gain_percent`, `gain_low` and `gain_high` over two columns.

    `at`: the columns that go down and across. A cell whose interval holds zero is hatched, its number grey.
    """
    worlds, workloads = (list(dict.fromkeys(cells[name])) for name in ("world", "workload"))
    down, across = (sorted(cells[name].unique()) for name in at)
    most = max(float(np.nanmax(cells["gain_percent"].abs())), 1.0)
    width = 0.6 + max(0.68 * len(across), 1.8)
    with paper():
        figure, axes = plt.subplots(
            len(worlds), len(workloads), sharex=True, sharey=True, squeeze=False, layout="constrained",
            figsize=(max(width * len(workloads) + 1.4, 6.4), 1.3 + len(worlds) * (0.7 + 0.55 * len(down))),
        )  # fmt: skip
        for (row, world), (column, workload) in (
            (one, other) for one in enumerate(worlds) for other in enumerate(workloads)
        ):
            axis = axes[row][column]
            inside = cells[(cells["world"] == world) & (cells["workload"] == workload)]
            if inside.empty:
                _not_run(axis, f"{workload}, {world}")
                continue
            image = _draw_cells(axis, inside.set_index(list(at)), down, across, most)
            axis.set_title(workload if len(worlds) == 1 else f"{workload}, {world}")
            axis.set_xticks(range(len(across)), [ticks(value) for value in across])
            axis.set_yticks(range(len(down)), [ticks(value) for value in down])
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
            axis.set_facecolor(NOT_RUN)
        figure.colorbar(image, ax=axes.ravel().tolist(), label=colour_name)
        for axis in axes[-1]:
            axis.set_xlabel(axis_names[1])
        for axis in axes[:, 0]:
            axis.set_ylabel(axis_names[0])
        put_title(figure, _in_world(title, worlds), f"{note} Hatched: the 95 % interval holds zero.")
        return save_figure(figure, place)


def _draw_cells(axis: Axes, table: pd.DataFrame, down: list[float], across: list[float], most: float) -> Any:
    grid = table["gain_percent"].unstack().reindex(index=down, columns=across)
    image = axis.imshow(grid.to_numpy(float), origin="lower", cmap=COLOURS, vmin=-most, vmax=most, aspect="auto")
    for where, cell in table.iterrows():
        y, x = down.index(where[0]), across.index(where[1])  # type: ignore[index]
        sure = is_sure(cell)
        behind = None
        if not sure:
            behind = {"facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
            axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", lw=0, edgecolor=HATCHED))
        dark = abs(cell["gain_percent"]) > 0.6 * most
        axis.text(
            x, y, f"{cell['gain_percent']:+.1f}", ha="center", va="center", fontsize=9,
            color=("#ffffff" if dark else "#000000") if sure else "#555555", fontweight="bold" if sure else "normal",
            bbox=behind,
        )  # fmt: skip
    return image


def is_sure(cell: Mapping[Any, Any] | pd.Series) -> bool:
    """Whether a cell's interval leaves zero out."""
    return bool(cell["gain_low"] > 0 or cell["gain_high"] < 0)


def _not_run(axis: Axes, title: str) -> None:
    axis.set_axis_off()
    axis.set_title(title)
    axis.text(0.5, 0.5, "not run", ha="center", va="center", color=FAINT, transform=axis.transAxes)


def _in_world(title: str, worlds: Sequence[str]) -> str:
    """A title that says where, unless each panel does."""
    return f"{title} ({worlds[0]} world)" if len(worlds) == 1 else title


def bar_panels(results: pd.DataFrame, panel: Panel, title: str, note: str, place: Path) -> list[Path]:
    """A panel a world (down) and workload (across), a bar a policy from zero, with its change against the reference.

    Whiskers: the interval of the paired change, laid on the reference's mean.
    """
    worlds, workloads = (list(dict.fromkeys(results[name])) for name in ("world", "workload"))
    policies = list(dict.fromkeys(results["policy"]))
    with paper():
        figure, axes = plt.subplots(
            len(worlds), len(workloads), sharex=True, squeeze=False, layout="constrained",
            figsize=(max(2.7 * len(workloads), 6.4), 1.0 + 3.0 * len(worlds)),
        )  # fmt: skip
        for row, world in enumerate(worlds):
            for column, workload in enumerate(workloads):
                axis = axes[row][column]
                inside = results[(results["world"] == world) & (results["workload"] == workload)]
                if inside.empty:
                    _not_run(axis, f"{workload}, {world}")
                    continue
                _draw_bars(axis, inside, policies, panel)
                axis.set_title(workload if len(worlds) == 1 else f"{workload}, {world}")
            axes[row][0].set_ylabel(panel.label)
        put_title(figure, _in_world(title, worlds), note, axes[0][0])
        return save_figure(figure, place)


def _draw_bars(axis: Axes, rows: pd.DataFrame, policies: Sequence[str], panel: Panel) -> None:
    by_policy: dict[Any, Any] = {row["policy"]: row for row in rows.to_dict("records")}
    tops = []
    for place, policy in enumerate(policies):
        if policy not in by_policy:
            continue
        row, style = by_policy[policy], style_of(policy)
        height = panel.scale * row[panel.value]
        axis.bar(
            place,
            height,
            0.8,
            label=style.label,
            color=style.colour,
            alpha=0.75,
            hatch=style.hatch,
            edgecolor="#333333",
        )
        top, text = height, ""
        if policy != row["reference"] and not math.isnan(row["ttft_change_percent"]):
            base = height / (1 + row["ttft_change_percent"] / 100)
            low, high = (base * (1 + row[f"ttft_change_{side}"] / 100) for side in ("low", "high"))
            axis.plot([place, place], [low, high], color="k", lw=1.2, marker="_", markersize=6)
            top, text = max(height, high), f"{row['ttft_change_percent']:+.1f}"
        tops.append(top)
        axis.annotate(text, (place, top), (0, 3), textcoords="offset points", ha="center", fontsize=7.5)
    axis.set_ylim(0, 1.1 * max(tops, default=1.0))
    axis.set_xticks([])
    axis.grid(axis="y")
