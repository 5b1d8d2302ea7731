"""Options that several verbs share, and how they become changes to a specification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.verbs import choices

Trace = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Trace to replay, plain, gzip or zstd (default: the generator).")
]
Requests = Annotated[int | None, typer.Option(metavar="N", help="How many requests.")]
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
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed of requests, arrivals and congestion.")]
Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other field, e.g. serving.stripes=8.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="One line at the end, and what went wrong.")]
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
