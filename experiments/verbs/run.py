"""`netkv run`: one run of one specification."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.verbs import choices
from experiments.verbs.options import AsJson, Congestion, Quiet, Refresh, Requests, Seed, Setting, Trace, changes_of

if TYPE_CHECKING:
    from experiments.running import RunSpec


def run(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="[SPEC.yaml]", help="Specification (default: ours).")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder; must not exist yet.")] = Path(
        "results/run"
    ),
    world: Annotated[
        str | None,
        typer.Option(metavar="emulated|analytic", help="Which world replays it.", autocompletion=choices.worlds),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A policy's name, or your own as module:Class.", autocompletion=choices.policies
        ),
    ] = None,
    seed: Seed = None,
    trace: Trace = None,
    requests: Requests = None,
    refresh: Refresh = None,
    congestion: Congestion = None,
    settings: Setting = None,
    faults: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Faults of the run: a list in YAML or JSON (see the docs).")
    ] = None,
    pcap: Annotated[
        list[str] | None,
        typer.Option("--pcap", metavar="LINK", help="Capture at this link's port, e.g. 'tor0>agg1'; repeatable."),
    ] = None,
    save_detailed: Annotated[
        bool, typer.Option("--save-detailed", help="Add vLLM's arrays, an entry a request, to summary.json.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Replay a workload under one policy and write the run's folder.

    With --pcap it holds a folder pcap with a file a link, of both directions, which Wireshark opens and `netkv paths
    --pcap` reads. A link has the name that it has in links.parquet; quote its `>`.

    With --faults, or the section `faults`, things break during the run: links, switches, telemetry, workers.

    Exit code 0 when every request was dealt with and the run can be trusted, 1 when its verdict is `invalid`, 2 for bad
    input, 3 when something broke that the run cannot do without: nothing is written then.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from experiments.running import check_free, open_world, read_faults, read_spec, verdict_of, write_run
    from scenario import load_workload, part_of_trace
    from serving import POLICY_ERROR

    changes = changes_of(
        settings=settings,
        trace=trace,
        requests=requests,
        refresh=refresh,
        congestion=congestion,
        seed=seed,
        world=world,
        policy=policy,
    )
    if faults is not None:
        changes = {"faults": read_faults(faults)} | changes
    spec = read_spec(spec_file, changes)
    check_links(spec, pcap or [])
    check_free(out)
    workload = load_workload(spec.scenario)
    wanted = len(workload.requests)
    if part := part_of_trace(spec.scenario, workload):
        typer.echo(part, err=as_json)
    for note in workload.notes:
        typer.echo(f"netkv: {note}", err=True)
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(), console=console, disable=quiet or not console.is_terminal,
    )  # fmt: skip
    with ExitStack() as during, progress:
        task = progress.add_task("starting", total=wanted)
        order = captured = None
        if pcap:
            from testbed import CaptureOrder

            captured = Path(during.enter_context(tempfile.TemporaryDirectory(prefix="netkv-pcap-")))
            order = CaptureOrder(tuple(pcap), str(captured))
        with open_world(spec, lambda text: progress.update(task, description=text), order) as opened:
            progress.update(task, description=f"{spec.policy} in the {spec.world} world")
            outcome = opened.run(spec.scenario, lambda done: progress.update(task, completed=done))
        verdict = verdict_of(spec, outcome)
        summary = write_run(out, spec, outcome, verdict, captured, detailed=save_detailed)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **verdict, "summary": summary}, indent=1))
    else:
        place = f"{out}: " if quiet else ""
        typer.echo(
            f"{place}{summary['completed']} completed, {summary['failed']} failed, {summary['rejected']} rejected;"
            f" mean TTFT {_ms(summary['mean_ttft_ms'])}, p99 {_ms(summary['p99_ttft_ms'])}, KV transfer"
            f" {_ms(summary['kv_transfer_ms'])}; {verdict['verdict']}"
        )
        if not quiet:
            for row in outcome.faults:
                typer.echo(f"  {in_words(row)}")
            for reason in verdict["reasons"]:
                typer.echo(f"  {reason}")
            typer.echo(f"results: {out}")
    if POLICY_ERROR in outcome.evidence:
        console.print(f"netkv: {verdict['reasons'][0]}", markup=False, highlight=False, soft_wrap=True)
    if verdict["verdict"] == "invalid":
        raise typer.Exit(1)


def check_links(spec: RunSpec, links: list[str]) -> None:
    """SpecError unless every link is one of the fabric, named once, in a world that has packets."""
    from experiments.running import SpecError, shortened

    if links and spec.world != "emulated":
        raise SpecError(f"--pcap: the {spec.world} world has no packets to capture")
    known = spec.build()[0].link_by_name
    for number, link in enumerate(links):
        if link not in known:
            raise SpecError(f"--pcap {shortened(link)}: no such link; they are {next(iter(known))} and so on")
        if link in links[:number]:
            raise SpecError(f"--pcap {link}: named twice")


def in_words(fault: Mapping[str, Any]) -> str:
    """A row of faults.parquet as a line."""
    until_s = fault["until_s"]
    until = "the end" if until_s is None or math.isnan(until_s) else f"{until_s:.2f} s"
    lost = f", {fault['requests_failed']} failed" if fault["requests_failed"] else ""
    again = f", {fault['requests_retried']} tried again" if fault["requests_retried"] else ""
    named = f"{fault['kind']} {fault['target']}"
    return f"{named} from {fault['at_s']:.2f} s to {until}: {fault['requests_hit']} requests hit{lost}{again}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
