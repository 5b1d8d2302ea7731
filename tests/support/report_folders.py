"""Folders to report on: a small sweep in both worlds, and one whose every text a user could choose is hostile.

The emulated runs are what the simulator says with transfers a fifth longer, on the paths that it dealt: packets are not
needed to test what a page does with them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from experiments.cli import app
from experiments.questions import QUESTIONS
from experiments.running.run_spec import RunSpec
from experiments.running.store import write_run
from experiments.running.sweep import RUNS, Condition
from experiments.running.worlds import open_world
from serving import Outcome
from simulator.path_choice import TRANSFER, PathChoice

SLOWER = 1.2
SMALL = {"workload.requests": 24, "workload.max_input_tokens": 16_384, "workload.max_output_tokens": 8, "seed": 0,
         "congestion.mean_on_s": 0.5, "congestion.mean_off_s": 0.5, "simulation.link_sample_s": 0.5,
         "serving.connections": "per_transfer", "serving.placement": "segregated"}  # fmt: skip
"""New connections, because their paths follow from the request's number alone; transfers of every tier."""

ATTACK = "</script><script>window.attacked = true</script><img src=x onerror='window.attacked = true'>"
POLICY = f"mine:{ATTACK}"
TRACE = f"{ATTACK.replace('/', '&#47;')}.jsonl"

EVIDENCE = {
    "calibration": [0.97, 0.96], "saturated_rate": 0.999, "port_overshoot": 0.99, "kv_wire_bytes": 5e7,
    "background_bytes": 5e7, "delivered_bytes": 1.02e8 * 1514 / 1448, "paths_mismatch": 0.04, "timer_lag_p99_ms": 2.0,
    "arrival_lateness_p99_ms": 5.0, "switch_wait_mean": 0.1, "cpu_starved": 0.0, "softnet_drops": 0,
    "delivered_frames": 100_000, "lost_frames": 400, "queue_drops": 20, "retransmitted": 500, "softnet_squeezes": 50,
    "transfer_time_error": 0.05, "round_trip_share": 0.01, "telemetry_error": -0.002, "paced_background": 0.97,
}  # fmt: skip


def staleness_conditions(worlds: tuple[str, ...]) -> list[Condition]:
    """Round-robin, Static, and Full at two intervals, without a control run and constant traffic."""
    policies = ("round_robin", "netkv_static", "netkv_full")
    found = QUESTIONS["staleness"].conditions("quick", policies, worlds, SMALL)
    moving = [one for one in found if one.labels["congestion"] != "constant"]
    return [one for one in moving if one.labels["refresh_s"] != 5.0 and "control" not in one.labels]


def write_sweep(
    out: Path, conditions: list[Condition], question: str = "staleness", verdict: str = "valid", error: str = ""
) -> Path:
    """A finished sweep. `error`: what the first request of every run failed with."""
    for condition in conditions:
        outcome = outcome_of(condition.spec)
        if error:
            first = outcome.requests[0]
            outcome.requests[0] = replace(first, status="failed", error=error)
        reasons = {"verdict": verdict, "reasons": [error] if error else [], "worst": error or None}
        write_run(out / RUNS / condition.name, condition.spec, outcome, reasons)
    description = {
        "question": question,
        "runs": {condition.name: dict(condition.labels) for condition in conditions},
        "specs": {condition.name: condition.spec.model_dump(mode="json") for condition in conditions},
    }
    (out / "sweep.json").write_text(json.dumps(description))
    return out


def hostile_sweep(out: Path) -> Path:
    """A sweep whose policy, trace, labels, run names, errors and reasons try to run a script, in both worlds."""
    conditions = []
    for condition in staleness_conditions(("emulated", "analytic")):
        spec, labels = condition.spec, {**condition.labels, "workload": TRACE}
        if spec.policy == "netkv_static":
            spec = spec.model_copy(update={"policy": POLICY})
        workload = spec.workload.model_copy(update={"trace": Path("/nowhere") / TRACE})
        spec = spec.model_copy(update={"workload": workload})
        conditions.append(Condition(f"{condition.name}{ATTACK.replace('/', ' ')}", spec, labels))
    return write_sweep(out, conditions, verdict="suspect", error=ATTACK)


@dataclass(frozen=True)
class MadeReport:
    """A report as `netkv report --json` makes it: the page, and what the command said of it."""

    page: Path
    said: dict[str, Any]


def made_report(folder: Path, *options: str) -> MadeReport:
    """The report on a folder, beside it."""
    page = folder.parent / f"{folder.name}.html"
    done = CliRunner().invoke(app, ["report", str(folder), "--out", str(page), "--json", *options])
    assert done.exit_code == 0, done.output
    return MadeReport(page, json.loads(done.output))


def outcome_of(spec: RunSpec) -> Outcome:
    """What the simulator says of a run; for the emulated world slower, and with what a testbed would add."""
    policy = spec.policy if spec.policy != POLICY else "netkv_static"
    workload = spec.workload.model_copy(update={"trace": None})
    plain = spec.model_copy(update={"world": "analytic", "policy": policy, "workload": workload})
    with open_world(plain) as world:
        outcome = world.run(plain.scenario)
    outcome.requests = [replace(record, policy=spec.policy) for record in outcome.requests]
    return _as_packets(spec, outcome) if spec.world == "emulated" else outcome


def _as_packets(spec: RunSpec, outcome: Outcome) -> Outcome:
    fabric, _ = spec.build()
    choice, stripes = PathChoice(spec.seed, "hashed"), spec.serving.stripes
    decided = {row["request_id"]: row for row in map(_row, outcome.decisions)}
    paths: list[dict[str, Any]] = []
    for place, record in enumerate(outcome.requests):
        row = decided[record.request_id]
        taken_ms = SLOWER * record.kv_transfer_ms
        later_ms = taken_ms - record.kv_transfer_ms
        outcome.requests[place] = replace(record, kv_transfer_ms=taken_ms, ttft_ms=record.ttft_ms + later_ms)
        ways = fabric.paths(record.prefill_id, record.decode_id)
        dealt = [
            path for path, count in choice.deal(TRANSFER, record.request_id, stripes, len(ways)) for _ in range(count)
        ]
        row |= {"source_ports": list(range(stripes)), "paths": dealt}
        for connection, path in enumerate(dealt):
            paths.append(
                {
                    "owner": "transfer", "number": record.request_id, "connection": connection,
                    "started_s": row["transfer_started_s"],
                    "ended_s": row["transfer_started_s"] + taken_ms / 1e3, "bytes": record.kv_bytes / stripes,
                    "rate_bps": None, "source": record.prefill_id, "target": record.decode_id, "tier": record.tier,
                    "source_port": connection, "equal_paths": len(ways), "path": path,
                    "links": [fabric.links[link].name for link in ways[path]],
                }
            )  # fmt: skip
    outcome.decisions, outcome.paths = list(decided.values()), paths
    outcome.evidence = dict(EVIDENCE)
    return outcome


def _row(decision: Any) -> dict[str, Any]:
    return dict(decision) if isinstance(decision, dict) else asdict(decision)
