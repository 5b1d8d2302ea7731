"""The paper's tables and figures drawn anew from our runs, its own points over ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from experiments.drawing import (
    GPUS,
    LOAD_PERCENT,
    REFRESH,
    SHARING,
    SLO,
    TBT,
    TTFT,
    BarChart,
    Chart,
    HeatMap,
    LineChart,
    Quantity,
    Scale,
    change_against,
    gain_over,
    style_of,
)

NOTE = "Hollow diamonds: the paper. Bands: our 95 % intervals over seeds or blocks of requests."
CELLS_NOTE = "In brackets: the paper."

CONTEXT = Quantity("context_tokens", "Context", "Ki tokens", factor=1 / 1024, scale=Scale.LOG)
CROSS_POD = Quantity("cross_pod_oversubscription", "Cross-pod oversubscription", "n:1")
BACKGROUND = Quantity("background_percent", "Background", "%")
P99_TTFT = Quantity("p99_ttft", "P99 time to first token", "ms")
TRANSFER = Quantity("mean_transfer", "Mean KV transfer", "ms")


def _published(quantity: Quantity, column: str) -> Quantity:
    """The same quantity in a frame of `_wide`, with the paper's points."""
    return replace(quantity, column=column, low=f"{column}_low", high=f"{column}_high", published=f"{column}_published")


def _wide(cells: pd.DataFrame, at: Sequence[str]) -> pd.DataFrame:
    """One row a world, workload, value of what is varied, and policy: each quantity with its interval and the paper's.

    A change has the name of its baseline in its column: `mean_ttft_change_cla_star`.
    """
    rows: dict[tuple[object, ...], dict[str, object]] = {}
    keys = ["world", "workload", *at, "policy"]
    for cell in cells.to_dict("records"):
        place = tuple(cell[key] for key in keys)
        row = rows.setdefault(place, {**dict(zip(keys, place, strict=True)), "requests": cell["requests"]})
        name = f"{cell['quantity']}_{cell['against']}".rstrip("_")
        row |= {name: cell["ours"], f"{name}_low": cell["low"], f"{name}_high": cell["high"]}
        row |= {f"{name}_published": cell["published"], "reference": "cla_star"}
    return pd.DataFrame(list(rows.values()))


def paper_charts(cells: pd.DataFrame) -> list[Chart]:
    """One or two charts for each table and figure of `cells_frame` that has something to draw."""
    found = []
    for table, draw in _DRAWN.items():
        rows = cells[cells["table"] == table]
        if len(rows):
            found += draw(rows)
    return found


LEVELS = (_published(TTFT, "mean_ttft"), _published(TBT, "mean_tbt"), _published(SLO, "slo_attainment"))
TAILS = (_published(P99_TTFT, "p99_ttft"), *LEVELS[1:])


def _load(cells: pd.DataFrame) -> list[Chart]:
    quantities = (*LEVELS, _published(TRANSFER, "mean_transfer"))
    title = "Table 2: the paper's policies as its load grows"
    return [_lines("table2", title, _wide(cells, ["load_percent"]), LOAD_PERCENT, quantities)]


def _context(cells: pd.DataFrame) -> list[Chart]:
    changes = [
        _published(change_against(style_of(policy).label, ""), f"mean_ttft_change_{policy}")
        for policy in ("round_robin", "cla_star")
    ]
    title = "Table 3: NetKV-Full (paper) along the context"
    return [_lines("table3", title, _wide(cells, ["context_tokens"]), CONTEXT, changes)]


def _ablation(cells: pd.DataFrame) -> list[Chart]:
    wide = _wide(cells, [])
    if "mean_ttft" not in wide:
        return []
    wide = wide.dropna(subset=["mean_ttft"])
    base = wide[wide["policy"] == "cla_star"].set_index(["world", "workload"])["mean_ttft"]
    of_base = base.reindex(pd.MultiIndex.from_frame(wide[["world", "workload"]])).to_numpy()
    wide = wide.assign(change_percent=100 * (wide["mean_ttft"] / of_base - 1), ttft_change_percent=math.nan)
    return [
        BarChart(
            name="table4",
            title="Table 4: mean TTFT, step by step",
            rows=wide,
            note="Hollow diamonds: the paper. Whiskers: our 95 % interval of the mean.",
            quantity=_published(TTFT, "mean_ttft"),
            change=change_against("CLA*", "change"),
        )
    ]


def _size(name: str, title: str, quantities: Sequence[Quantity]) -> Callable[[pd.DataFrame], list[Chart]]:
    def draw(cells: pd.DataFrame) -> list[Chart]:
        return [
            _lines(f"{name}_{mode}", f"{title}, {mode} mode", _wide(rows, ["gpus"]), GPUS, quantities)
            for mode, rows in cells[cells["quantity"] != "decision"].groupby("mode", sort=False)
        ]

    return draw


def _topology(cells: pd.DataFrame) -> list[Chart]:
    wide = _wide(cells, ["cross_pod_oversubscription", "background_percent"])
    name = "mean_ttft_change_cla_star"
    rows = wide.assign(
        gain_percent=-wide[name], gain_low=-wide[f"{name}_high"], gain_high=-wide[f"{name}_low"],
        gain_published=-wide[f"{name}_published"],
    )  # fmt: skip
    return [
        HeatMap(
            name="figure1",
            title="Figure 1: mean TTFT that NetKV-Full (paper) saves over CLA*",
            rows=rows,
            note=CELLS_NOTE,
            policy="paper_full",
            x=BACKGROUND,
            y=CROSS_POD,
            value=replace(gain_over("CLA*"), published="gain_published"),
        )
    ]


def _staleness(cells: pd.DataFrame) -> list[Chart]:
    title = "Figure 2: the age of telemetry under constant background"
    return [_lines("figure2", title, _wide(cells, ["refresh_s"]), REFRESH, TAILS)]


def _prefix(cells: pd.DataFrame) -> list[Chart]:
    return [_lines("figure3", "Figure 3: sharing of prefixes", _wide(cells, ["sharing"]), SHARING, TAILS)]


def _lines(name: str, title: str, rows: pd.DataFrame, x: Quantity, quantities: Sequence[Quantity]) -> LineChart:
    drawn = tuple(quantity for quantity in quantities if quantity.column in rows)
    return LineChart(name=name, title=title, rows=rows, note=NOTE, x=x, quantities=drawn)


_DRAWN: dict[str, Callable[[pd.DataFrame], list[Chart]]] = {
    "Table 2": _load,
    "Table 3": _context,
    "Table 4": _ablation,
    "Table 5": _size(
        "table5", "Table 5: the size of the fabric",
        (_published(TRANSFER, "mean_transfer"), _published(change_against("CLA*", ""), "mean_ttft_change_cla_star")),
    ),
    "Figure 1": _topology,
    "Figure 2": _staleness,
    "Figure 3": _prefix,
    "Figure 5": _size("figure5", "Figure 5: the size of the fabric", (TAILS[0],)),
}  # fmt: skip
