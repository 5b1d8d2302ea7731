"""`netkv doctor`: what is missing, and the remedy for it; `--telemetry`: how fresh the oracle of a fabric is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.verbs.options import AsJson, Congestion, Setting, changes_of

if TYPE_CHECKING:
    from experiments.running import RunSpec

LONGEST_S = 3600.0


def doctor(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="[SPEC.yaml]", help="With --telemetry: whose fabric (default: ours).")
    ] = None,
    telemetry: Annotated[
        bool, typer.Option("--telemetry", help="Bring the fabric up and watch its telemetry instead.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(metavar="N", min=1.0, max=LONGEST_S, help="How long to watch telemetry.")
    ] = 10.0,
    congestion: Congestion = None,
    settings: Setting = None,
    as_json: AsJson = False,
) -> None:
    """Look at this machine. Exit code 0 when the emulated world can run, 1 when something is missing.

    With --telemetry: bring a fabric up with its background traffic and show what the controller's counters say, how old
    that is and what it costs. Exit code 0 when in the end every switch answers and every link is measured, else 1.
    """
    if telemetry:
        from experiments.running import read_spec

        _watch(read_spec(spec_file, changes_of(settings=settings, congestion=congestion)), seconds, as_json)
    elif spec_file is not None or settings or congestion is not None:
        from experiments.running import SpecError

        raise SpecError("doctor: a specification is for --telemetry; without it, it is the machine that is looked at")
    else:
        _examine(as_json)


def _examine(as_json: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    from experiments.planning import foreign_packages

    findings = [finding for finding in foreign_packages() if not finding.ok]
    if not findings:  # with another package in the place of one of ours, nothing else would load
        from experiments.planning import examine

        findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        console = Console()
        for finding in findings:
            mark = "[red]missing[/]"
            if finding.ok:
                mark = "[yellow]-      [/]" if finding.absent else "[green]ok     [/]"
            remedy = f"  ->  {finding.remedy}" if finding.remedy else ""
            console.print(
                f"{mark} {finding.name:<20} {escape(finding.found)}{escape(remedy)}", highlight=False, soft_wrap=True
            )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _watch(spec: RunSpec, seconds: float, as_json: bool) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from experiments.planning import telemetry_line, telemetry_table
    from testbed import EmulatedWorld

    looks: list[dict[str, Any]] = []
    fabric, _ = spec.build()
    title = (
        f"{len(fabric.switches)} switches, {len(fabric.links)} links, a poll every {1e3 * spec.oracle.poll_s:g} ms,"
        f" background: {spec.congestion.kind}"
    )
    console = Console(stderr=as_json)
    with Live(Text("starting"), console=console, transient=as_json, auto_refresh=False) as live:

        def say(text: str) -> None:
            live.update(Text(text), refresh=True)

        def show(look: dict[str, Any]) -> None:
            looks.append(look)
            live.update(telemetry_table(look, title), refresh=True)
            if not console.is_terminal and not as_json:
                console.print(telemetry_line(look), highlight=False, soft_wrap=True)

        with EmulatedWorld(spec.scenario, spec.emulation, say) as world:
            world.watch(spec.scenario, seconds, show)
    if as_json:
        typer.echo(json.dumps({"poll_s": spec.oracle.poll_s, "switches": len(fabric.switches), "looks": looks}))
    if not looks or not looks[-1]["complete"] or looks[-1]["switches_missing"]:
        raise typer.Exit(1)
