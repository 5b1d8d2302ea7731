"""What the moving picture of the fabric shows: the same requests under several policies, as plain data for the page.

A scene is one scenario (fabric, requests, background traffic, seed) and the runs that replayed it. Link colours come
from port counters, the paths of transfers from what the switches recorded. In the analytic world, whose runs are
repeatable, the links are sampled again more finely and the paths drawn again from the seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.drawing import LEVEL_NAMES, level_height, place_nodes
from experiments.report.collect import CollectedSweep, Run
from experiments.report.typesetting import run_label
from experiments.running import PATHS, open_world, read_table
from scheduler import POLICIES, PolicyError
from simulator import TRANSFER, PathChoice, PersistentConnections, SimulationError
from topologies import Fabric, Roles
from workloads import WorkloadError

WINDOW_S = 60.0
"""A scene ends here: a scene is short enough to watch, and the page stays small."""

MOST_SCENES = 3
MOST_RUNS = 12
MOST_CELLS = 24_000
"""Links x samples of a run; more samples than that are averaged in bins."""

FINE_S = 0.25
"""Between two samples of a link when an analytic run is repeated for the picture."""

MOST_REPEATED = 2_000
"""Requests of an analytic run that is repeated; a longer one shows the samples it was stored with."""


def scenes(sweeps: Sequence[CollectedSweep]) -> list[dict[str, Any]]:
    """The scenes to show, emulated ones and those with most policies first. Invalid runs are in none."""
    groups: dict[str, dict[str, Run]] = {}
    trusted = [run for sweep in sweeps for run in sweep.runs if run.verdict != "invalid"]
    for run in sorted(trusted, key=lambda run: run.spec.world != "emulated"):
        groups.setdefault(_scenario_key(run), {}).setdefault(run_label(run.spec), run)
    ranked = sorted(groups.values(), key=lambda group: _rank(group.values()), reverse=True)
    chosen: list[dict[str, Run]] = []
    for group in ranked:
        similar = [other for other in chosen if _setting(other) == _setting(group)]
        if not similar and len(chosen) < MOST_SCENES:
            chosen.append(group)
    return [_scene(dict(list(group.items())[:MOST_RUNS])) for group in chosen]


def _scenario_key(run: Run) -> str:
    """All that two runs share when they differ in their policy and oracle settings alone."""
    shared = run.spec.scenario.model_dump(mode="json", exclude={"policy", "policy_parameters", "oracle"})
    return json.dumps(shared, sort_keys=True)


def _rank(runs: Iterable[Run]) -> tuple[int, int, int]:
    group = list(runs)
    emulated = sum(run.spec.world == "emulated" for run in group)
    return (emulated, len({run.spec.policy for run in group}), -group[0].spec.fabric.instances)


def _setting(group: dict[str, Run]) -> tuple[Any, ...]:
    """Scenes that agree in this look the same: only the seed or a setting of the traffic differs."""
    spec = next(iter(group.values())).spec
    worlds = frozenset(run.spec.world for run in group.values())
    return (spec.fabric, spec.workload.profile, spec.workload.trace, worlds)


def _scene(runs: dict[str, Run]) -> dict[str, Any]:
    spec = next(iter(runs.values())).spec
    fabric, roles = spec.build()
    shown = [_run(label, run, fabric) for label, run in runs.items()]
    workload = spec.workload.trace.name if spec.workload.trace else spec.workload.profile
    return {
        "name": f"{workload}, {spec.fabric.gpus} GPUs, {spec.workload.requests} requests, seed {spec.seed}",
        "nodes": _nodes(fabric, roles),
        "levels": _levels(),
        "links": [[link.source, link.target, round(link.capacity_bps / 1e9, 1)] for link in fabric.links],
        "end_s": round(max(run["end_s"] for run in shown), 2),
        "cut": any(run["cut"] for run in shown),
        "runs": shown,
    }


def _levels() -> list[dict[str, Any]]:
    """Names and heights of the rows of nodes, from the instances up."""
    switches = [{"name": name, "y": level_height(level)} for level, name in LEVEL_NAMES.items()]
    return [{"name": "instances", "y": 0.0}, *switches]


def _nodes(fabric: Fabric, roles: Roles) -> list[dict[str, Any]]:
    kinds = {fabric.instances[index].name: "prefill" for index in roles.prefill}
    kinds |= {fabric.instances[index].name: "decode" for index in roles.decode}
    width = len(fabric.instances)
    return [
        {"name": name, "x": round((x + 0.5) / width, 4), "y": y, "kind": kinds.get(name, "switch")}
        for name, (x, y) in place_nodes(fabric).items()
    ]


def _run(label: str, run: Run, fabric: Fabric) -> dict[str, Any]:
    requests = read_table(run.folder, "requests")
    transfers, ways = _transfers(run, fabric, requests)
    links, source = _links(run, requests)
    times_s, levels, bin_size = _samples(links, fabric)
    last_s = max([transfer["end"] for transfer in transfers], default=float(times_s.max()) if len(times_s) else 0.0)
    done = requests[requests["status"] == "completed"]
    binned = f"; each colour is the mean of {bin_size} samples" if bin_size > 1 else ""
    return {
        "label": label,
        "policy": run.spec.policy,
        "world": run.spec.world,
        "verdict": run.verdict,
        "ttft_ms": round(float(done["ttft_ms"].mean()), 1) if len(done) else None,
        "kv_ms": round(float(done["kv_transfer_ms"].mean()), 1) if len(done) else None,
        "about": f"{source}{binned}. {ways}",
        "times": [round(float(at), 3) for at in times_s],
        "levels": levels,
        "transfers": [transfer for transfer in transfers if transfer["start"] < WINDOW_S],
        "end_s": min(last_s, WINDOW_S),
        "cut": last_s > WINDOW_S,
    }


def _links(run: Run, requests: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Utilisation over time and where it is from."""
    stored = read_table(run.folder, "links")
    if run.spec.world == "emulated":
        return stored, "Links: the switches' port counters"
    if run.spec.policy in POLICIES and len(requests) <= MOST_REPEATED:
        finer = run.spec.simulation.model_copy(update={"link_sample_s": FINE_S})
        spec = run.spec.model_copy(update={"simulation": finer})
        try:
            with open_world(spec) as world:
                outcome = world.run(spec.scenario)
        except (WorkloadError, PolicyError, SimulationError):  # such as a trace that no longer exists
            return stored, "Links: the samples stored with the run"
        again = {record.request_id: record.decode_id for record in outcome.requests}
        if again == dict(zip(requests["request_id"], requests["decode_id"], strict=True)):
            return pd.DataFrame(outcome.links), f"Links: the run repeated, with a sample every {FINE_S:g} s"
    return stored, "Links: the samples stored with the run"


def _samples(links: pd.DataFrame, fabric: Fabric) -> tuple[np.ndarray[Any, Any], list[str], int]:
    """Times, a string of two hexadecimal digits (percent) a link for each of them, and samples a bin."""
    known = links[links["time_s"] <= WINDOW_S]
    if known.empty:
        return np.array([]), [], 1
    table = known.pivot_table(index="time_s", columns="link", values="utilisation", aggfunc="mean")
    table = table.reindex(columns=[link.name for link in fabric.links]).fillna(0.0)
    bin_size = -(-table.size // MOST_CELLS)
    bins = np.arange(len(table)) // bin_size
    percent = (100 * table.groupby(bins).mean().to_numpy()).clip(0, 100).round().astype(int)
    times_s = table.index.to_series().groupby(bins).mean().to_numpy(dtype=float)
    return times_s, ["".join(f"{value:02x}" for value in row) for row in percent], bin_size


def _transfers(run: Run, fabric: Fabric, requests: pd.DataFrame) -> tuple[list[dict[str, Any]], str]:
    """Every transfer of bytes with the ways it took, in order of their start, and where that is known from."""
    moved = requests[(requests["kv_bytes"] > 0) & requests["kv_transfer_ms"].notna()]
    if run.spec.world == "emulated":
        if not (run.folder / f"{PATHS}.parquet").is_file():
            return [], "Transfers are not shown: this run has no record of paths."
        ways = _recorded_ways(read_table(run.folder, PATHS), fabric)
        about = "Transfers: each TCP connection on its path as the switches report it."
    elif run.spec.simulation.network == "fluid":
        ways = _dealt_ways(run, fabric, moved)
        about = "Transfers: on the paths of the simulator, drawn again from the seed."
    else:
        return [], "Transfers are not shown: the closed form has no paths."
    found = []
    for row in moved.to_dict("records"):
        mine = ways.get(int(row["request_id"]), [])
        if mine:
            found.append(
                {
                    "id": int(row["request_id"]),
                    "from": f"h{row['prefill_id']}",
                    "to": f"h{row['decode_id']}",
                    "tier": int(row["tier"]),
                    "gb": round(row["kv_bytes"] / 1e9, 3),
                    "start": min(way["start"] for way in mine),
                    "end": max(way["end"] for way in mine),
                    "ways": mine,
                }
            )
    return sorted(found, key=lambda transfer: (transfer["start"], transfer["id"])), about


def _recorded_ways(connections: pd.DataFrame, fabric: Fabric) -> dict[int, list[dict[str, Any]]]:
    """By request: the ways of its connections, those on one path together. Connections of unknown path are left out."""
    ways: dict[int, list[dict[str, Any]]] = {}
    known = connections[(connections["owner"] == "transfer") & (connections["path"] >= 0)]
    for (number, _), stripes in known.groupby(["number", "path"]):
        links = [fabric.link_by_name[name].index for name in stripes["links"].iloc[0]]
        start_s, end_s = float(stripes["started_s"].min()), float(stripes["ended_s"].max())
        ways.setdefault(int(str(number)), []).append(_way(links, len(stripes), start_s, end_s))
    return ways


def _dealt_ways(run: Run, fabric: Fabric, moved: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """The same for an analytic run: its paths follow from the seed, the request and idle persistent connections."""
    decisions = read_table(run.folder, "decisions")
    if "transfer_started_s" not in decisions.columns:
        return {}
    started_s = decisions.set_index("request_id")["transfer_started_s"]
    choice = PathChoice(run.spec.seed, run.spec.simulation.spreading)
    persistent = PersistentConnections(len(fabric.instances)) if run.spec.serving.connections == "persistent" else None
    ways: dict[int, list[dict[str, Any]]] = {}
    on_their_way: dict[int, float] = {}
    for row in sorted(moved.to_dict("records"), key=lambda row: float(started_s[int(row["request_id"])])):
        request_id = int(row["request_id"])
        source, target = int(row["prefill_id"]), int(row["decode_id"])
        paths = fabric.paths(source, target)
        start_s = float(started_s[request_id])
        end_s = start_s + row["kv_transfer_ms"] / 1e3
        number = request_id
        if persistent is not None:
            for over in [one for one, ended_s in on_their_way.items() if ended_s <= start_s]:
                persistent.give_back(over)
                del on_their_way[over]
            number = persistent.take(request_id, source, target)
            on_their_way[request_id] = end_s
        dealt = choice.deal(TRANSFER, number, run.spec.serving.stripes, len(paths))
        ways[request_id] = [_way(list(paths[path]), count, start_s, end_s) for path, count in dealt]
    return ways


def _way(links: list[int], stripes: int, start_s: float, end_s: float) -> dict[str, Any]:
    return {"links": links, "stripes": stripes, "start": round(start_s, 3), "end": round(end_s, 3)}
