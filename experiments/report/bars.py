"""Bars of mean TTFT, a bar a policy, with whiskers and the change against the reference on each."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from experiments.report.looks import PolicyLook, plain
from experiments.report.plotting import INK, Panel, new_plot, rgba


def bar_panel(rows: pd.DataFrame, looks: Mapping[str, PolicyLook], title: str) -> Panel:
    """A panel of `ttft_ms` with its interval, and `ttft_change_percent` above the bars."""
    plot = new_plot("", "", height=330)
    by_policy = {str(row["policy"]): row for row in rows.to_dict("records")}
    names = [policy for policy in looks if policy in by_policy]
    for policy in names:
        look, row = looks[policy], by_policy[policy]
        change = f"{row['ttft_change_percent']:+.1f} %" if not pd.isna(row["ttft_change_percent"]) else ""
        interval = f"[{row['ttft_change_low']:+.1f}, {row['ttft_change_high']:+.1f}]" if change else ""
        own = policy == row["reference"]
        plot.add_bar(
            x=[plain(look.label)], y=[row["ttft_ms"]], name=plain(look.label), meta=policy,
            marker={"color": rgba(look.colour, 0.85), "line": {"color": look.colour, "width": 1.5},
                    "pattern": {"shape": look.pattern, "fillmode": "overlay",
                                "fgcolor": "#ffffff", "fgopacity": 0.45, "size": 7, "solidity": 0.25}},
            error_y={"type": "data", "symmetric": False, "array": [row["ttft_high_ms"] - row["ttft_ms"]],
                     "arrayminus": [row["ttft_ms"] - row["ttft_low_ms"]], "color": INK, "thickness": 1.2, "width": 4},
            hovertemplate=f"<b>{plain(look.label)}</b><br>{row['ttft_ms']:.0f} ms"
            f" [{row['ttft_low_ms']:.0f}, {row['ttft_high_ms']:.0f}]"
            + ("" if own or not change else f"<br>{change} {interval} against {plain(row['reference'])}")
            + f"<br>{row['completed']} of {row['requests']} requests, {row['seeds']} seeds<extra></extra>",
        )  # fmt: skip
        plot.add_scatter(
            x=[plain(look.label)], y=[row["ttft_high_ms"]], mode="text", text=["" if own else change], meta=policy,
            textposition="top center", textfont={"size": 12, "color": INK}, hoverinfo="skip", showlegend=False,
            cliponaxis=False,
        )  # fmt: skip
    plot.update_xaxes(
        type="category", categoryorder="array", categoryarray=[plain(looks[name].label) for name in names]
    )
    plot.update_yaxes(range=[0, 1.16 * max(by_policy[name]["ttft_high_ms"] for name in names)])
    best = min(names, key=lambda name: by_policy[name]["ttft_ms"])
    lowest = f"{looks[best].label}, {by_policy[best]['ttft_ms']:.0f} ms"
    alt = f"Bar chart of mean time to first token, {title}: lowest for {lowest}."
    return Panel(f"{title}: mean time to first token (ms)", plot, alt)
