"""`netkv plan`: what a run would ask of the fabric, without root and without packets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from experiments.plan import plan_run
from experiments.spec import SpecError, read_spec
from experiments.verbs.options import AsJson, Congestion, Requests, Seed, Setting, Trace, changes_of


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
    as_json: AsJson = False,
) -> None:
    """Show the fabric, its rates as emulated, and the load that the workload offers. Checks the specification."""
    changes = changes_of(settings=settings, trace=trace, requests=requests, congestion=congestion, seed=seed)
    spec = read_spec(spec_file, changes)
    planned = plan_run(spec)
    if figure is not None:
        if figure.suffix not in (".png", ".svg", ".pdf"):
            raise SpecError(f"--figure {figure}: the name must end in .png, .svg or .pdf")
        from experiments.fabric_figure import draw_fabric  # Matplotlib takes longer to load than all else

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
    )
    for warning in planned["warnings"]:
        console.print(f"warning: {warning}", highlight=False)
