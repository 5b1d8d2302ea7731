"""The figures of docs/explanation/analytic-world.md, printed again.

    python -m tests.bench.calibration [--trace PATH] [--seeds N] [ROW ...]

Without a trace the generator's `conversation` stands in for it. Every row is what `netkv run --world analytic` does
with the settings printed beside it; figures are means over the seeds, changes have their range over them in brackets.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scenario import Scenario
from simulator.analytic_world import AnalyticWorld
from simulator.simulation import SimulationSpec

POLICIES = ("round_robin", "cla_star", "netkv_static", "netkv_full")
REQUESTS = 12_031

Settings = Mapping[str, Any]

ROWS: dict[str, Settings] = {
    "default": {},
    "no background": {"congestion.kind": "none"},
    "32 hot-spot connections": {"congestion.flows": 32},
    "NIC 100 Gbit/s": {"fabric.nic_rate_bps": 100e9},
    "NIC 400 Gbit/s": {"fabric.nic_rate_bps": 400e9},
    "no oversubscription": {"fabric.tor_oversubscription": 1, "fabric.aggregation_oversubscription": 1},
    "4:1 at both levels": {"fabric.tor_oversubscription": 4, "fabric.aggregation_oversubscription": 4},
    "prefill at 60 % of peak": {"model.prefill_utilisation": 0.6},
    "arrivals 1.3x": {"workload.speedup": 1.3},
    "stamps as they are": {"workload.arrivals": "raw"},
    "colocated": {"serving.placement": "colocated"},
    "stripes spread evenly": {"simulation.spreading": "ideal"},
    "closed form": {"simulation.network": "closed_form"},
    "Llama-3-8B": {"model": "llama-3-8b"},
    "Qwen3-30B-A3B": {"model": "qwen3-30b-a3b"},
    "chatbot": {"workload.profile": "chatbot"},
    "rag": {"workload.profile": "rag"},
    "long_context": {"workload.profile": "long_context"},
}


class Figures(NamedTuple):
    """Means over the completed requests of one run; attainment is a share of all requests."""

    ttft_ms: float
    queue_ms: float
    transfer_ms: float
    tpot_ms: float
    attainment: float


def measure(settings: Settings, policy: str, seed: int, trace: Path | None) -> Figures:
    fields: dict[str, Any] = {"policy": policy, "seed": seed, "workload": {"requests": REQUESTS}}
    if trace is not None and "workload.profile" not in settings:
        fields["workload"]["trace"] = trace
    for name, value in settings.items():
        section, _, field = name.partition(".")
        if field:
            fields.setdefault(section, {})[field] = value
        else:
            fields[section] = value
    simulation = SimulationSpec.model_validate(fields.pop("simulation", {}))
    scenario = Scenario.model_validate(fields)
    with AnalyticWorld(scenario, simulation) as world:
        records = world.run(scenario).requests
    done = [record for record in records if record.status == "completed"]
    ttft_ms, tpot_ms = (np.array([getattr(record, name) for record in done]) for name in ("ttft_ms", "tpot_ms"))
    good = (ttft_ms <= scenario.slo.ttft_s * 1e3) & ~(tpot_ms > scenario.slo.tpot_s * 1e3)
    return Figures(
        float(ttft_ms.mean()),
        float(np.mean([record.queue_ms for record in done])),
        float(np.mean([record.kv_transfer_ms for record in done])),
        float(np.nanmean(tpot_ms)),
        float(good.sum()) / len(records),
    )


def row(name: str, seeds: int, trace: Path | None) -> str:
    settings = ROWS[name]
    runs = {policy: [measure(settings, policy, seed, trace) for seed in range(seeds)] for policy in POLICIES}

    def change(field: str, base: str, *, ratio: bool) -> str:
        pairs = [(getattr(a, field), getattr(b, field)) for a, b in zip(runs["netkv_full"], runs[base], strict=True)]
        found = [(a / b - 1) * 100 if ratio else a - b for a, b in pairs]
        return f"{np.mean(found):+.1f} ({min(found):+.1f} ... {max(found):+.1f})"

    def mean(policy: str, field: str) -> float:
        return float(np.mean([getattr(run, field) for run in runs[policy]]))

    attained = [(a.attainment - b.attainment) * 100 for a, b in zip(runs["netkv_full"], runs["cla_star"], strict=True)]
    cells = (
        name,
        " ".join(f"--set {key}={value}" for key, value in settings.items()) or "-",
        f"{mean('round_robin', 'ttft_ms'):.0f}",
        f"{100 * mean('round_robin', 'transfer_ms') / mean('round_robin', 'ttft_ms'):.0f} %",
        f"{mean('netkv_full', 'ttft_ms'):.0f}",
        change("ttft_ms", "round_robin", ratio=True),
        change("ttft_ms", "cla_star", ratio=True),
        change("ttft_ms", "netkv_static", ratio=True),
        f"{np.mean(attained):+.1f}",
        change("tpot_ms", "round_robin", ratio=False),
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"one of: {', '.join(ROWS)} (default: all)".replace("%", "%%")
    )
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}")
    print(
        "| case | settings | RR TTFT ms | of it transfer | Full TTFT ms | Full/RR % | Full/CLA* % | Full/Static % "
        "| SLO against CLA*, pp | TPOT against RR, ms |\n" + "|---" * 10 + "|"
    )
    for name in options.rows or ROWS:
        print(row(name, options.seeds, options.trace), flush=True)


if __name__ == "__main__":
    main()
