"""How far the emulated runs can be trusted: their verdicts, and every probe against its limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.drawing import VERDICT_STYLES
from experiments.report.collect import Run
from experiments.report.figure_card import FigureCard, PlotPanel
from experiments.report.plotly_style import marker_of, new_plot, plain
from testbed import verdict as limits

FARTHEST = 3.0
"""A probe farther beyond its limit than this is drawn here; the table has the number."""

Evidence = Mapping[str, Any]


@dataclass(frozen=True)
class Probe:
    """One thing that a run is judged by. `read`: its value, None where a run has none; `used`: the share of the limit
    that the value takes up, 1 being where a run becomes suspect."""

    name: str
    what: str
    limit: str
    shown: str
    read: Callable[[Evidence], float | None]
    used: Callable[[float], float]


def _value(key: str) -> Callable[[Evidence], float | None]:
    return lambda evidence: evidence.get(key)


def _unexplained(evidence: Evidence) -> float | None:
    """Frames lost over those that full queues account for."""
    if "queue_drops" not in evidence:
        return None
    spare = limits.LEAST_LOSS * evidence["delivered_frames"]
    explained = limits.LOSSES_A_DROP * evidence["queue_drops"] + spare
    return float(max(evidence["lost_frames"], 0) / max(explained, 1))


def _retransmitted(evidence: Evidence) -> float | None:
    """Retransmitted segments less frames lost, over the allowed difference; UDP retransmits nothing."""
    if "retransmitted" not in evidence or evidence.get("background_udp"):
        return None
    lost, again = max(evidence["lost_frames"], 0), evidence["retransmitted"]
    spare = limits.LEAST_LOSS * evidence["delivered_frames"]
    return float(abs(again - lost) / max(limits.RETRANSMISSIONS_OFF * max(again, lost) + spare, 1))


def _squeezed(evidence: Evidence) -> float | None:
    if "softnet_squeezes" not in evidence:
        return None
    return float(evidence["softnet_squeezes"] / max(evidence["delivered_frames"], 1))


def _conserved_use(value: float) -> float:
    low, high = limits.CONSERVED
    return (1 - value) / (1 - low) if value < 1 else (value - 1) / (high - 1)


PROBES = (
    Probe("Calibration", "rate of a test transfer on an idle path over its links' rate, before and after the run",
          f"at least {limits.CALIBRATION_SUSPECT:.0%}", "{:.1%}",
          lambda evidence: min(evidence.get("calibration") or [math.nan]),
          lambda value: (1 - value) / (1 - limits.CALIBRATION_SUSPECT)),
    Probe("Full ports", "median rate of full ports over their shaper's", f"within {limits.SATURATED_OFF:.0%}", "{:.2%}",
          _value("saturated_rate"), lambda value: abs(value - 1) / limits.SATURATED_OFF),
    Probe("Transfer time", "time of all KV transfers beyond the fluid answer to the same decisions",
          f"within {limits.TRANSFER_ERROR_SUSPECT:.0%}", "{:+.1%}", _value("transfer_time_error"),
          lambda value: abs(value) / limits.TRANSFER_ERROR_SUSPECT),
    Probe("Round trip", "least round trip of the farthest tier over the median KV transfer",
          f"at most {limits.ROUND_TRIP_SHARE:.0%}", "{:.1%}", _value("round_trip_share"),
          lambda value: value / limits.ROUND_TRIP_SHARE),
    Probe("Telemetry", "bytes that the controller counted beyond those of the ports' own counters",
          f"within {limits.TELEMETRY_OFF:.0%}", "{:+.1%}", _value("telemetry_error"),
          lambda value: abs(value) / limits.TELEMETRY_OFF),
    Probe("Background", "what paced background flows sent of their rates", f"at least {limits.PACED_LEAST:.0%}",
          "{:.1%}", _value("paced_background"), lambda value: (1 - value) / (1 - limits.PACED_LEAST)),
    Probe("Overshoot", "most a port carried in a tenth of a second over its shaper's rate and burst",
          f"at most {limits.OVERSHOOT:g}", "{:.3f}", _value("port_overshoot"),
          lambda value: max(value - 1, 0.0) / (limits.OVERSHOOT - 1)),
    Probe("Conservation", "bytes that reached hosts over those that workers acknowledged, with headers",
          f"{limits.CONSERVED[0]:g} to {limits.CONSERVED[1]:g}", "{:.3f}", limits.conserved, _conserved_use),
    Probe("Paths", "bytes on multipath links that the recorded paths do not explain",
          f"at most {limits.PATHS_MISMATCH:.0%}", "{:.1%}", _value("paths_mismatch"),
          lambda value: value / limits.PATHS_MISMATCH),
    Probe("Losses", "frames lost over those that full queues account for", "at most 1", "{:.2f}", _unexplained, float),
    Probe("Retransmissions", "retransmitted segments less frames lost, over the allowed difference", "at most 1",
          "{:.2f}", _retransmitted, float),
    Probe("Arrivals", "how late requests were issued, 99th percentile", f"at most {limits.LATE_SUSPECT_MS:g} ms",
          "{:.1f} ms", _value("arrival_lateness_p99_ms"), lambda value: value / limits.LATE_SUSPECT_MS),
    Probe("Timers", "how late timers fired, 99th percentile", f"at most {limits.LAG_SUSPECT_MS:g} ms", "{:.1f} ms",
          _value("timer_lag_p99_ms"), lambda value: value / limits.LAG_SUSPECT_MS),
    Probe("Switch wait", "share of the time that the switches waited for a processor",
          f"at most {limits.SWITCH_WAIT_SUSPECT:.0%}", "{:.1%}", _value("switch_wait_mean"),
          lambda value: value / limits.SWITCH_WAIT_SUSPECT),
    Probe("Processor", "share of 0.25 s samples without idle processor time", f"at most {limits.STARVED_SUSPECT:.0%}",
          "{:.0%}", _value("cpu_starved"), lambda value: value / limits.STARVED_SUSPECT),
    Probe("Squeezes", "times the kernel deferred received packets (softnet squeezes), over frames delivered",
          f"at most {limits.SQUEEZED:.1%}", "{:.2%}", _squeezed, lambda value: value / limits.SQUEEZED),
    Probe("Kernel drops", "packets that the kernel dropped before any switch saw them", "none", "{:.0f}",
          _value("softnet_drops"), lambda value: 0.0 if not value else 1.0 + value / 100),
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """A probe of a run."""

    run: str
    verdict: str
    probe: Probe
    value: float

    @property
    def used(self) -> float:
        return self.probe.used(self.value)

    @property
    def text(self) -> str:
        return self.probe.shown.format(self.value)


def readings(runs: Sequence[Run]) -> list[Reading]:
    """Every probe of every emulated run that has it."""
    found = []
    for run in runs:
        evidence = run.manifest.get("evidence") or {}
        for probe in PROBES:
            value = probe.read(evidence)
            if run.spec.world == "emulated" and value is not None and not math.isnan(value):
                found.append(Reading(run.name, run.verdict, probe, float(value)))
    return found


def probe_rows(found: Sequence[Reading]) -> list[dict[str, Any]]:
    """A row a probe: its limit, the middle of its values, the worst and whose that is."""
    rows = []
    for probe in PROBES:
        mine = sorted((reading for reading in found if reading.probe is probe), key=lambda reading: reading.used)
        if mine:
            median = mine[(len(mine) - 1) // 2]
            worst = mine[-1]
            rows.append({"probe": probe, "median": median.text, "worst": worst, "runs": len(mine)})
    return rows


def evidence_figure(found: Sequence[Reading]) -> list[FigureCard]:
    """Every probe of every run as a share of its limit, so that the nearest are seen at once."""
    if not found:
        return []
    rows = probe_rows(found)
    names = [row["probe"].name for row in reversed(rows)]
    plot = new_plot("Share of the limit used (%)", "", height=80 + 34 * len(names))
    for verdict, style in VERDICT_STYLES.items():
        mine = [reading for reading in found if reading.verdict == verdict]
        plot.add_scatter(
            x=[100 * min(reading.used, FARTHEST) for reading in mine], y=[reading.probe.name for reading in mine],
            mode="markers", name=verdict, meta=verdict,
            marker={**marker_of(style, 10), "opacity": 0.75},
            text=[f"<b>{plain(reading.run)}</b> ({verdict})<br>{reading.probe.what}: {reading.text}"
                  f"<br>limit: {reading.probe.limit}" for reading in mine],
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    plot.update_yaxes(type="category", categoryorder="array", categoryarray=names, range=[-0.6, len(names) - 0.4])
    worst = max(found, key=lambda reading: reading.used)
    plot.update_xaxes(range=[-3, max(106.0, 100 * min(worst.used, FARTHEST) * 1.06)], ticksuffix=" %")
    plot.add_vline(x=100, line={"color": "#7a1f1f", "width": 1.5, "dash": "dash"})
    table = pd.DataFrame(
        {
            "run": reading.run,
            "verdict": reading.verdict,
            "probe": reading.probe.name,
            "value": reading.value,
            "limit": reading.probe.limit,
            "share_of_limit": reading.used,
        }
        for reading in found
    )
    place = "Farthest beyond" if worst.used > 1 else "Nearest to"
    see = (
        f"{place} its limit came {worst.probe.name.lower()} ({worst.probe.what}): {worst.text} in {worst.run}, where"
        f" {worst.probe.limit} {'is required' if worst.probe.limit != 'none' else 'are allowed'}."
    )
    return [
        FigureCard(
            key="evidence",
            title="How close did every run come to the limits of its probes?",
            question="Each point is a probe of one run; right of the dashed line a run becomes suspect.",
            findings=[see],
            panels=[
                PlotPanel("", plot, f"Dot plot of {len(rows)} probes over {len({r.run for r in found})} runs. {see}")
            ],
            table=table,
        )
    ]
