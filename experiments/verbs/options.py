"""Options that several verbs share, and how they become changes to a specification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.verbs import choices

Trace = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Trace to replay, plain, gzip, zstd or Parquet (default: the generator)."),
]
Requests = Annotated[int | None, typer.Option(metavar="N", help="How many requests (default: 200).")]
Refresh = Annotated[
    str | None, typer.Option(metavar="SECONDS", help="Refresh interval of the telemetry snapshot, or never.")
]
Congestion = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help=f"Background congestion: {', '.join(choices.CONGESTION_KINDS)}.",
        autocompletion=choices.congestion_kinds,
    ),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed of requests, arrivals and congestion (default: 0).")]
Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other field, e.g. serving.stripes=8.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be run, and run nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="One line at the end, and what went wrong.")]
Worlds = Annotated[
    str,
    typer.Option(
        metavar="emulated|analytic|both", help="Which world replays it.", autocompletion=choices.worlds_or_both
    ),
]
ProfileName = Annotated[
    str,
    typer.Option(metavar="quick|full", help="Minutes, or what a paper would print.", autocompletion=choices.profiles),
]
SweepOut = Annotated[Path | None, typer.Option(metavar="DIR", help="The folder of the runs (default: a new one).")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue in --out.")]
Jobs = Annotated[int, typer.Option(metavar="N", min=1, help="Runs at a time, in processes of this machine.")]
Dask = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Scheduler of a Dask cluster to run on, e.g. tcp://host:8786.")
]


def changes_of(
    *,
    settings: list[str] | None,
    trace: Path | None = None,
    requests: int | None = None,
    refresh: str | None = None,
    congestion: str | None = None,
    seed: int | None = None,
    **others: Any,
) -> dict[str, Any]:
    """The shortcuts that were given as dotted names and values; `--set` wins over a shortcut."""
    from experiments.running import parse_settings

    shortcuts = {
        "workload.trace": None if trace is None else str(trace),
        "workload.requests": requests,
        "oracle.refresh_s": None if refresh is None else _number_or_word(refresh),
        "congestion.kind": congestion,
        "seed": seed,
        **others,
    }
    return {name: value for name, value in shortcuts.items() if value is not None} | parse_settings(settings or [])


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


WORLDS_OF = {"emulated": ("emulated",), "analytic": ("analytic",), "both": ("emulated", "analytic")}


def worlds_of(named: str) -> tuple[str, ...]:
    """The worlds that `--world` names. SpecError for another name."""
    from experiments.running import SpecError
    from topologies import did_you_mean

    if named not in WORLDS_OF:
        raise SpecError(f"world: {named!r} is not one of {', '.join(WORLDS_OF)}{did_you_mean(named, WORLDS_OF)}")
    return WORLDS_OF[named]


def check_jobs(jobs: int, dask: str | None) -> None:
    """SpecError where `--jobs` is given beside the cluster that decides it."""
    from experiments.running import SpecError

    if dask is not None and jobs != 1:
        raise SpecError("--jobs: a cluster has as many as it has workers (leave it out with --dask)")
