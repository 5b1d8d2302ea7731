"""`netkv plan`: what a run would ask of the fabric and, against a calibration, whether this machine carries it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.verbs.options import AsJson, Congestion, Requests, Seed, Setting, Trace, changes_of

if TYPE_CHECKING:
    from testbed import Capacity, Datapath

BUSY = 0.2
"""Share of the processors that others may keep busy during a calibration."""


def plan(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="[SPEC.yaml]", help="Specification (default: ours).")
    ] = None,
    seed: Seed = None,
    trace: Trace = None,
    requests: Requests = None,
    congestion: Congestion = None,
    settings: Setting = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the fabric, .png, .svg or .pdf.")] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure what this machine carries (some 10 s; needs root).")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Use the measurement in FILE; with --calibrate, write it there."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the fabric, its rates as emulated, and the load that the workload offers. Checks the specification.

    With a calibration it also predicts whether an emulated run fits this machine, and says which rate_scale and which
    time_dilation do. Nothing is kept of a calibration but in the FILE of --calibration.
    """
    from rich.console import Console
    from rich.table import Table

    from experiments.planning import assess_feasibility, plan_run, predict_load
    from experiments.running import SpecError, read_spec

    changes = changes_of(settings=settings, trace=trace, requests=requests, congestion=congestion, seed=seed)
    spec = read_spec(spec_file, changes)
    planned = plan_run(spec)
    if (capacity := _capacity(spec.emulation.datapath, calibrate, calibration)) is not None:
        planned["capacity"] = asdict(capacity)
        planned["feasibility"] = assess_feasibility(spec, predict_load(spec), capacity)
    if figure is not None:
        if figure.suffix not in (".png", ".svg", ".pdf"):
            raise SpecError(f"--figure {figure}: the name must end in .png, .svg or .pdf")
        from experiments.drawing import draw_fabric  # Matplotlib takes longer to load than all else

        try:
            draw_fabric(*spec.build(), figure)
        except OSError as problem:
            raise SpecError(f"--figure {figure}: {problem.strerror or problem}") from None
    if as_json:
        typer.echo(json.dumps(planned, indent=1))
        return
    console = Console()
    switches = ", ".join(f"{count} {level}" for level, count in planned["switches"].items())
    instances = planned["instances"]
    console.print(
        f"{planned['gpus']} GPUs: {len(instances['prefill'])} prefill and {len(instances['decode'])} decode instances;"
        f" switches: {switches}",
        highlight=False,
        soft_wrap=True,
    )
    links = Table("link", "real Gbit/s", "emulated Mbit/s")
    for name, rate in planned["links"].items():
        links.add_row(name, f"{rate['real_gbps']:g}", f"{rate['emulated_mbps']:g}")
    tiers = Table("tier", "prefill-decode pairs", "nominal Gbit/s", "latency us")
    for tier in planned["tiers"]:
        tiers.add_row(*(f"{tier[name]:g}" for name in ("tier", "pairs", "nominal_gbps", "latency_us")))
    console.print(links, tiers)
    load = planned["workload"]
    console.print(
        f"{load['requests']} requests in {load['seconds']:.0f} s, {load['mean_input_tokens']:.0f} prompt tokens each;"
        f" prefill {load['prefill_utilisation']:.0%} busy; KV {load['offered_kv_gbps']:.0f} Gbit/s,"
        f" emulated {load['offered_kv_emulated_mbps']:.0f} Mbit/s",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_smallest_blobs(load), highlight=False)
    ports = planned["ports"]
    console.print(
        f"switches of datapath {ports['datapath']}, {ports['count']} ports{_memory(ports)}",
        highlight=False,
        soft_wrap=True,
    )
    for warning in planned["warnings"]:
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True)
    if "feasibility" in planned:
        console.print(_in_words(planned["capacity"], planned["feasibility"]), highlight=False, soft_wrap=True)
    if figure is not None:
        console.print(f"figure: {figure}", highlight=False, soft_wrap=True)


def _capacity(datapath: Datapath, calibrate: bool, file: Path | None) -> Capacity | None:
    """What was measured of a datapath, now or before; None without either option. SpecError for a file without it."""
    from experiments.running import SpecError, hand_over
    from testbed import Capacity, measure_capacity

    if calibrate:
        found = measure_capacity(datapath)
        if file is not None:
            try:
                file.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
                hand_over(file)
            except OSError as problem:
                raise SpecError(f"--calibration {file}: {problem.strerror or problem}") from None
        return found
    if file is None:
        return None
    try:
        found = Capacity.read(json.loads(file.read_text(encoding="utf-8")))
    except OSError as problem:
        raise SpecError(f"--calibration {file}: {problem.strerror or problem}") from None
    except ValueError as problem:
        raise SpecError(f"--calibration {file}: {problem}; `netkv plan --calibrate` makes one") from None
    if found.datapath != datapath:
        raise SpecError(
            f"--calibration {file}: measured with datapath={found.datapath}, and the specification runs on {datapath}:"
            " calibrate again, or set emulation.datapath"
        )
    return found


def _smallest_blobs(load: dict[str, Any]) -> str:
    """How many frames the smallest tenth of the blobs are, and what would make them enough."""
    from experiments.planning import LEAST_FRAMES

    said = f"a tenth of the KV blobs, of whole prompts, are of {load['tenth_blob_frames']:.0f} frames or fewer"
    if load["tenth_blob_frames"] >= LEAST_FRAMES:
        return said
    return (
        f"{said}: emulation.rate_scale={load['rate_scale_for_frames']:.0f} gives them {LEAST_FRAMES}, at the same load"
        f" with emulation.time_dilation={load['time_dilation_for_frames']:.2g}, by which a run takes longer"
    )


def _memory(ports: dict[str, Any]) -> str:
    return f", which take {ports['memory_bytes'] / 1e9:.1f} GB of memory" if ports["memory_bytes"] else ""


def _in_words(capacity: dict[str, Any], found: dict[str, Any]) -> str:
    uses, proposals = found["uses"], found["proposals"]
    warning = ""
    if capacity["busy_cpus"] > BUSY * capacity["cpus"]:
        warning = (
            f"warning: {capacity['busy_cpus']:.1f} of {capacity['cpus']} processors were busy with other things during"
            " the calibration: calibrate beside no other work\n"
        )
    return warning + (
        f"this machine carries {capacity['rack_bps'] / 1e6:.0f} Mbit/s in a rack, {capacity['across_bps'] / 1e6:.0f}"
        f" across pods and {capacity['switched_per_s'] / 1e3:.0f} k frames/s through its switches\n"
        f"offered: a path of {found['path_mbps']:.0f} Mbit/s ({uses['idle_path']:.0%}) and, in the fullest tenth of it,"
        f" {found['busy_switched_per_s'] / 1e3:.0f} k frames/s ({uses['switches']:.0%}); bring-up about"
        f" {found['bringup_s']:.0f} s, the run about {found['run_s']:.0f} s\n"
        f"prediction: {found['prediction']}; {found['margin']:.2g} times this load would still fit\n"
        f"the least that fits: emulation.rate_scale={proposals['rate_scale']:g} with time_dilation=1, or"
        f" emulation.time_dilation={proposals['time_dilation']:g} with the given rate_scale"
    )
