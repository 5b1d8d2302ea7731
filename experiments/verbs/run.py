"""`netkv run`: one run of one specification."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.verbs import choices
from experiments.verbs.options import (
    AsJson,
    Congestion,
    DryRun,
    Quiet,
    Refresh,
    Requests,
    Seed,
    Setting,
    Trace,
    changes_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.running import RunSpec
    from experiments.watching import Watched
    from workloads import Request

BASELINE = "round_robin"
"""What a run that is watched is compared with."""


def run(
    spec_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SPEC.yaml]",
            help="Specification, as `netkv init` writes it; options win over it (default: every field's default).",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder; must not exist yet.")] = Path(
        "results/run"
    ),
    world: Annotated[
        str | None,
        typer.Option(
            metavar="emulated|analytic",
            help="Which world replays it (default: emulated, which needs root).",
            autocompletion=choices.worlds,
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A policy's name, your own as module:Class, or the URL of a router.",
            autocompletion=choices.policies,
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
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the run while it goes on; without a terminal, as lines.")
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="With --watch: a policy in the fluid model, or a run's folder, to compare TTFT with"
            f" (default: {BASELINE}).",
            autocompletion=choices.policies,
        ),
    ] = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Replay a workload under one policy and write the run's folder.

    With --pcap it holds a folder pcap with a file a link, of both directions, which Wireshark opens and `netkv paths
    --pcap` reads. A link has the name that it has in links.parquet; quote its `>`.

    With --watch it shows links as bars, requests by stage, transfers in flight, the age of the telemetry snapshot and
    the TTFT so far against --baseline. On a terminal an analytic run is slowed down to some 15 s.

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
    check_watch(watch, baseline, quiet)
    check_free(out)
    workload = load_workload(spec.scenario)
    wanted = len(workload.requests)
    if part := part_of_trace(spec.scenario, workload):
        typer.echo(part, err=as_json)
    for note in workload.notes:
        typer.echo(f"netkv: {note}", err=True)
    if dry_run:
        span_s = workload.requests[-1].timestamp_s if workload.requests else 0.0
        planned = {"out": str(out), "world": spec.world, "policy": spec.policy, "requests": wanted, "span_s": span_s}
        said = f"{spec.policy} in the {spec.world} world: {wanted} requests in {span_s:.1f} s; would write {out}"
        typer.echo(json.dumps(planned, indent=1) if as_json else said)
        return
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(), console=console, disable=quiet or watch or not console.is_terminal,
    )  # fmt: skip
    with ExitStack() as during, progress:
        task = progress.add_task("starting", total=wanted)
        order = captured = None
        if pcap:
            from testbed import CaptureOrder

            captured = Path(during.enter_context(tempfile.TemporaryDirectory(prefix="netkv-pcap-")))
            order = CaptureOrder(tuple(pcap), str(captured))
        watched = during.enter_context(_watched(spec, workload.requests, baseline, as_json)) if watch else None

        def say(text: str) -> None:
            progress.update(task, description=text)
            if watched is not None:
                watched.say(text)

        with open_world(spec, say, order) as opened:
            progress.update(task, description=f"{spec.policy} in the {spec.world} world")
            outcome = opened.run(
                spec.scenario, lambda done: progress.update(task, completed=done), watched and watched.watch
            )
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


def check_watch(watch: bool, baseline: str | None, quiet: bool) -> None:
    """SpecError where the options of watching contradict one another."""
    from experiments.running import SpecError

    if baseline is not None and not watch:
        raise SpecError("--baseline: it is for --watch")
    if watch and quiet:
        raise SpecError("--watch: it shows what --quiet leaves out: give one of them")


def _watched(
    spec: RunSpec, requests: Sequence[Request], baseline: str | None, as_json: bool
) -> AbstractContextManager[Watched]:
    """The live view of a run, on standard output or, where that is for JSON, on standard error."""
    from rich.console import Console

    from experiments.running import SpecError
    from experiments.watching import baseline_of, watched_run

    try:
        compared = baseline_of(spec, baseline or BASELINE)
    except SpecError:  # faults that the fluid model does not have
        if baseline is not None:
            raise
        compared = None
    return watched_run(spec, requests, compared, Console(stderr=as_json))


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
