"""`netkv sweep`: many runs of one question, a table, a figure and what they say."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.verbs import choices
from experiments.verbs.options import (
    AsJson,
    Congestion,
    Dask,
    DryRun,
    Jobs,
    ProfileName,
    Quiet,
    Refresh,
    Requests,
    Resume,
    Seed,
    Setting,
    SweepOut,
    Trace,
    Worlds,
    changes_of,
    check_jobs,
    worlds_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from experiments.questions import Question
    from experiments.reference import Agreement, DataSet
    from experiments.running import Condition, RunSpec

CONCLUSIONS = "conclusions.txt"


def sweep(
    question: Annotated[
        str,
        typer.Argument(
            metavar="QUESTION",
            help=f"What is varied: {', '.join(choices.QUESTIONS)}.",
            autocompletion=choices.questions,
        ),
    ],
    world: Worlds = "emulated",
    profile: ProfileName = "quick",
    policies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Policies to compare (default: the question's own).",
            autocompletion=choices.policy_lists,
        ),
    ] = None,
    as_map: Annotated[
        bool, typer.Option("--map", help="With staleness: the same as the question staleness_map.")
    ] = False,
    out: SweepOut = None,
    resume: Resume = False,
    jobs: Jobs = 1,
    dask: Dask = None,
    seed: Seed = None,
    trace: Trace = None,
    requests: Requests = None,
    refresh: Refresh = None,
    congestion: Congestion = None,
    settings: Setting = None,
    dry_run: DryRun = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="reference|DIR", help="Say whether the results agree with the reference's, or another sweep's."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run a sweep and end with a table, a figure and what they say of the paper's claims, in words.

    \b
    staleness      how the gain moves as the telemetry snapshot gets older (Figure 2)
    staleness_map  the same by how fast the congestion moves (also: staleness --map)
    topology       oversubscription at the ToR by oversubscription at the aggregation (Figure 1)
    prefix         the share of RAG requests that have a prefix in common (Figure 3)
    ablation       CLA*, Topo-Only, Static, Full on every workload profile (Figure 4)
    scale          64 to 1024 GPUs, load and congestion growing with them (Figure 5)
    regimes        decode slots, decode memory, warm caches, racks apart and four shapes of traffic
    faults         failed links, an old snapshot beside them, lost decode workers, no telemetry
    hard_cases     incast, a moving rack, failed links unseen, noisy, lost and slow telemetry, a second tenant

    Policies beyond the question's own, the public routers' among them, are named with --policies; its references should
    be among them, or there is nothing to compare with. A field that a question varies can be fixed with --set, where it
    is one field. The emulated world takes real time, so it runs a part of each profile (docs/reference/sweeps.md says
    which).

    Exit code 1 when a run had to be left out because its verdict is `invalid`, or with --against where the results do
    not agree.
    """
    from rich.console import Console

    from experiments.analysis import measured_apart
    from experiments.claims import claims_table, verdicts
    from experiments.questions import noise_sentence, note_on
    from experiments.reference import agreement_text
    from experiments.running import MEASURED, RUNS, new_files, read_control, read_sweep, run_sweep, strict

    chosen = _question(question, as_map)
    changes = changes_of(
        settings=settings, trace=trace, requests=requests, refresh=refresh, congestion=congestion, seed=seed
    )
    check_jobs(jobs, dask)
    worlds = worlds_of(world)
    named = chosen.policies if policies is None else [name.strip() for name in policies.split(",") if name.strip()]
    conditions = chosen.conditions(profile, named, worlds, changes)
    for note in _notes([condition.spec for condition in conditions]):
        typer.echo(f"netkv: {note}", err=True)
    place = out or Path("results") / f"{question}-{datetime.now():%Y%m%d-%H%M%S}"
    reference = None if against is None else _reference(against, chosen.name, conditions)
    console = Console(stderr=as_json, quiet=quiet)
    if dry_run:
        names = [condition.name for condition in conditions]
        planned = "\n".join((*names, f"{len(names)} runs; would write {place}"))
        typer.echo(json.dumps({"out": str(place), "runs": names}, indent=1) if as_json else planned)
        return
    run_sweep(chosen.name, conditions, place, resume=resume, console=console, jobs=jobs, dask=dask)
    seen = read_sweep(place)
    left_out = sorted(seen.loc[seen["verdict"] == "invalid", "run"].unique())
    because = {name: _reason(place / RUNS / name) for name in left_out}
    results = chosen.results(seen)
    if results.empty:
        if as_json:
            typer.echo(json.dumps(_report(place, results, [], because, []), indent=1))
        console.print(
            f"every run is invalid: verdict_reasons in {place / RUNS}/*/manifest.json say why,"
            " `netkv plan --calibrate` what this machine carries",
            highlight=False,
            soft_wrap=True,
        )
        if quiet and not as_json:
            typer.echo(_in_a_line(place, seen, left_out))
        raise typer.Exit(1)
    table_file = place / f"{chosen.name}.csv"
    note = note_on(conditions, left_out)
    said = chosen.sentences(results)
    agreement = None if reference is None else _agreement(reference, place, seen, chosen)
    if agreement is not None:
        said += agreement_text(agreement)
    if noise := noise_sentence(seen, read_control(place)):
        said.append(noise)
    if left_out:
        whose = "; ".join(f"{name} ({reason})" for name, reason in because.items())
        said.append(
            f"{len(left_out)} of {seen['run'].nunique()} runs are left out as invalid, with no more than the pairs that"
            f" they are part of: {whose}."
        )
    with new_files(place) as partial:
        table, measured = measured_apart(results)
        table.to_csv(partial / table_file.name, index=False)
        if len(measured):
            measured.to_csv(partial / f"{MEASURED}.csv", index=False)
        drawn = [*chosen.draw(results, partial, note), *chosen.draw_requests(seen, partial, note)]
        (partial / CONCLUSIONS).write_text("\n".join(said) + "\n", encoding="utf-8")
    figures = [place / figure.name for figure in drawn]
    judged = [verdict for verdict in verdicts([place], worlds, {place: seen}) if verdict.measured]
    if as_json:
        report = _report(place, results, figures, because, said)
        report["claims"] = strict([verdict.as_json() for verdict in judged])
        report["agreement"] = None if agreement is None else strict(agreement.as_json())
        typer.echo(json.dumps(report, indent=1, default=str))
    else:
        console.print(chosen.table(results))
        for sentence in said:
            console.print(f"- {sentence}", markup=False, highlight=False, soft_wrap=True)
        if judged:
            console.print(claims_table(judged, "The paper's claims, by this sweep alone"))
    shown = f"figure:  {figures[0]} (and .svg)\n" if figures else ""
    console.print(f"{shown}table:   {table_file}\nruns:    {place / RUNS}", highlight=False, soft_wrap=True)
    if left_out:
        console.print(f"left out as invalid: {', '.join(left_out)}", highlight=False, soft_wrap=True)
    if quiet and not as_json:
        typer.echo(_in_a_line(place, seen, left_out))
        if agreement is not None:
            typer.echo("\n".join(agreement_text(agreement)))
    if left_out or (agreement is not None and not agreement.holds):
        raise typer.Exit(1)


def _reference(named: str, question: str, conditions: list[Condition]) -> DataSet:
    """What `--against` names, before anything runs. SpecError where it has none of the runs."""
    from experiments.reference import open_reference, shared_runs

    found = open_reference(named)
    shared_runs(found, question, {condition.name: condition.spec for condition in conditions})
    return found


def _agreement(reference: DataSet, place: Path, seen: pd.DataFrame, question: Question) -> Agreement:
    from experiments.reference import compare_sweep

    return compare_sweep(reference, place, seen, [axis.label for axis in question.axes], question.references[0])


def _in_a_line(place: Path, seen: pd.DataFrame, left_out: list[str]) -> str:
    """How a sweep ended, for --quiet."""
    invalid = f", left out as invalid: {', '.join(left_out)}" if left_out else ""
    return f"{place}: {seen['run'].nunique()} runs{invalid}"


def _notes(specs: list[RunSpec]) -> list[str]:
    """What there is to say about the traces of these runs, each line once."""
    from scenario import load_workload

    traces = {spec.workload: spec for spec in specs if spec.workload.trace is not None}
    return list(dict.fromkeys(note for spec in traces.values() for note in load_workload(spec.scenario).notes))


def _reason(run: Path) -> str:
    """Why a run is invalid: the first of its verdict's reasons."""
    from experiments.running import read_manifest

    reasons = read_manifest(run).get("verdict_reasons") or ["no reason given"]
    return str(reasons[0])


def _question(name: str, as_map: bool) -> Question:
    from experiments.questions import QUESTIONS
    from experiments.running import SpecError
    from topologies import did_you_mean

    if name not in QUESTIONS:
        raise SpecError(f"sweep: {name!r} is not one of {', '.join(QUESTIONS)}{did_you_mean(name, QUESTIONS)}")
    if as_map and name != "staleness":
        raise SpecError(f"--map: {name} has none (staleness has)")
    return QUESTIONS["staleness_map" if as_map else name]


def _report(
    place: Path, results: pd.DataFrame, figures: list[Path], because: dict[str, str], said: list[str]
) -> dict[str, Any]:
    """The sweep for a machine: JSON knows no number that is not finite."""
    from experiments.questions import written
    from experiments.running import strict

    rows = results.astype(object).to_dict("records")
    for row in rows:
        row["refresh_s"] = written(row["refresh_s"])
    return {
        "out": str(place),
        "figures": [str(figure) for figure in figures],
        "left_out": list(because),
        "left_out_because": because,
        "results": strict(rows),
        "conclusions": said,
    }
