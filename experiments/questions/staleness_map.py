"""The map: NetKV-Full's gain over NetKV-Static by refresh interval and by the time scale of the congestion.

Static reads no telemetry, so one run a time scale and seed is the reference of a whole row.
"""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from experiments.analysis import NEVER, challengers, gains, interval_name, interval_names
from experiments.drawing import ON_OFF_PERIOD, REFRESH, Chart, HeatMap, gain_over, style_of
from experiments.questions.question import Axis, Packets, Profile, Question
from experiments.questions.tables import grid

REFERENCE = "netkv_static"
AT = (ON_OFF_PERIOD.column, REFRESH.column)

TIME_SCALE = Axis(
    label=ON_OFF_PERIOD.column,
    tag="scale{:g}s",
    own=("congestion.kind", "congestion.mean_on_s", "congestion.mean_off_s"),
    read=lambda spec: spec.congestion.mean_on_s,
    settings=lambda value, _: {
        "congestion.kind": "onoff",
        "congestion.mean_on_s": value,
        "congestion.mean_off_s": value,
    },
)

PROFILES = {
    # About 50 s a run on packets.
    "quick": Profile(
        refresh_s=(0.1, 5.0, 30.0),
        axes={"time_scale_s": (0.5, 2.0, 10.0, 30.0)},
        seeds=(0,),
        changes={"workload.requests": 170, "workload.max_input_tokens": 32_768, "workload.max_output_tokens": 64},
        # Two rows, 8 runs.
        packets=Packets(axes={"time_scale_s": (2.0, 10.0)}),
    ),
    # Two minutes a run: twice the longest interval and several spells of the slowest congestion.
    "full": Profile(
        refresh_s=(0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, NEVER),
        axes={"time_scale_s": (0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0)},
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 800, "workload.max_output_tokens": 256},
    ),
}


def _aged(results: pd.DataFrame) -> list[str]:
    """The policies that the map is of: who reads telemetry."""
    swept = results.dropna(subset=["refresh_s"])
    return challengers(swept, (REFERENCE,))


def table(results: pd.DataFrame) -> Table:
    first = _aged(results)[0]
    cells = gains(results, first)
    title = f"Mean TTFT saved by {first} over {REFERENCE}, %"
    return grid(cells, title, AT, ("mean spell of congestion", "refresh interval"), interval_name)


def sentences(results: pd.DataFrame) -> list[str]:
    """Where on the map a policy that reads telemetry still gains over NetKV-Static, which does not."""
    said = []
    for policy in _aged(results):
        for (world, workload, scale_s), rows in gains(results, policy).groupby(["world", "workload", "time_scale_s"]):
            ordered = rows.sort_values("refresh_s")
            certain, lost = ordered[ordered["gain_low"] > 0], ordered[ordered["gain_high"] < 0]
            best = ordered.iloc[0]
            text = (
                f"{policy} on {workload} in the {world} world, congestion of {scale_s:g} s: the freshest view gains"
                f" {best['gain_percent']:+.1f} % [{best['gain_low']:+.1f}, {best['gain_high']:+.1f}]"
            )
            if len(certain):
                text += f"; a gain can be told at a refresh of {interval_names(certain['refresh_s'])}"
            else:
                text += "; no gain can be told at any refresh interval"
            if len(lost):
                text += f"; at {interval_names(lost['refresh_s'])} the old view costs more than having none"
            said.append(text + ".")
    return said


def charts(results: pd.DataFrame) -> list[Chart]:
    """The map as a heat map a world, a chart a policy that reads telemetry."""
    return [
        HeatMap(
            name="staleness_map" if place == 0 else f"staleness_map-{policy.replace(':', '.')}",
            title=f"Where does an old telemetry snapshot cost {style_of(policy).label} its gain over NetKV-Static?",
            rows=gains(results, policy),
            policy=policy,
            x=REFRESH,
            y=ON_OFF_PERIOD,
            value=gain_over(style_of(REFERENCE).label),
        )
        for place, policy in enumerate(_aged(results))
    ]


QUESTION = Question(
    name="staleness_map",
    title="Where does an old telemetry snapshot cost NetKV-Full its gain over NetKV-Static?",
    asks="the same by how fast the congestion moves (also: staleness --map)",
    axes=(TIME_SCALE,),
    policies=(REFERENCE, "netkv_full"),
    references=(REFERENCE,),
    profiles=PROFILES,
    table=table,
    sentences=sentences,
    charts=charts,
)
