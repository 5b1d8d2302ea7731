"""The map: NetKV-Full's gain over NetKV-Static by refresh interval and by the time scale of the congestion.

Static reads no telemetry, so one run a time scale and seed is the reference of a whole row.
"""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from experiments.analysis import (
    challengers,
    gains,
    informed,
    percent_change,
    refresh_name,
    refresh_names,
    telemetry_worth,
)
from experiments.drawing import CONGESTION_PERIOD, REFRESH, Chart, HeatMap, gain_over, style_of
from experiments.questions.question import Axis, EmulatedCut, Question, SweepProfile
from experiments.questions.result_tables import grid
from experiments.questions.staleness import PROFILES as STALENESS
from experiments.questions.staleness_wording import refused

REFERENCE = "netkv_static"
AT = (CONGESTION_PERIOD.column, REFRESH.column)

TIME_SCALE = Axis(
    label=CONGESTION_PERIOD.column,
    tag="scale{:g}s",
    own=("congestion.kind", "congestion.mean_on_s", "congestion.mean_off_s", "congestion.period_s"),
    read=lambda spec: spec.congestion.period_s if spec.congestion.kind == "hotspot" else spec.congestion.mean_on_s,
    settings=lambda value, others: (
        {"congestion.period_s": value}
        if others.get("congestion.kind") == "hotspot"
        else {"congestion.kind": "onoff", "congestion.mean_on_s": value, "congestion.mean_off_s": value}
    ),
)

PROFILES = {
    # The set-up of the main job, where a transfer is a third of TTFT, with a hot spot that moves more and less often;
    # some 30 s an emulated run.
    "quick": SweepProfile(
        refresh_s=(0.1, 1.0, 5.0),
        axes={"time_scale_s": (0.5, 1.5, 6.0, 24.0)},
        seeds=(0,),
        changes={**STALENESS["quick"].changes, "congestion.kind": "hotspot"},
        # Three rows, 12 runs.
        emulated=EmulatedCut(axes={"time_scale_s": (0.5, 1.5, 6.0)}),
    ),
    # Four minutes a run: four times the longest interval, and several on/off periods of the slowest congestion.
    "full": SweepProfile(
        refresh_s=(0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0),
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
    cells = gains(informed(results), first)
    title = f"Mean TTFT saved by {first} over {REFERENCE}, %"
    return grid(cells, title, AT, ("period of the congestion", "refresh interval"), refresh_name)


def sentences(results: pd.DataFrame) -> list[str]:
    """Where on the map a policy that reads telemetry still gains over NetKV-Static, which does not."""
    said = []
    for policy in _aged(results):
        of_policy = results[results["policy"] == policy]
        said += [f"{policy}: {text}." for text in dict.fromkeys(refused(of_policy))]
        of_policy = informed(of_policy)
        for (world, workload, scale_s), rows in of_policy.groupby(["world", "workload", "time_scale_s"]):
            found = telemetry_worth(rows.sort_values("refresh_s"), "ttft_change")
            if found is None:
                continue
            text = (
                f"{policy} on {workload} in the {world} world, congestion of {scale_s:g} s: the freshest snapshot gains"
                f" {percent_change(-found.fresh)}"
            )
            if found.gains_at:
                text += f"; the gain is significant at a refresh interval of {refresh_names(found.gains_at)}"
            else:
                text += "; no gain is significant at any refresh interval"
            if found.losses_at:
                text += f"; at {refresh_names(found.losses_at)} the old snapshot costs more than having none"
            said.append(text + ".")
    return said


def charts(results: pd.DataFrame) -> list[Chart]:
    """The map as a heat map a world, a chart a policy that reads telemetry."""
    return [
        HeatMap(
            name="staleness_map" if place == 0 else f"staleness_map-{policy.replace(':', '.')}",
            title=f"Where does an old telemetry snapshot cost {style_of(policy).label} its gain over NetKV-Static?",
            rows=rows,
            policy=policy,
            x=REFRESH,
            y=CONGESTION_PERIOD,
            value=gain_over(style_of(REFERENCE).label),
        )
        for place, policy in enumerate(_aged(results))
        if len(rows := gains(informed(results), policy))
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
