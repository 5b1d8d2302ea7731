"""`netkv trace`: what a trace is, and a trace in our format."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.verbs.options import AsJson

if TYPE_CHECKING:
    from workloads import TracePart, TraceReport

trace = typer.Typer(
    help="Look at a trace of requests, or convert it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="Trace, plain, gzip, zstd or Parquet; a pipe will do for all but Parquet."),
]
TimeUnit = Annotated[
    str | None, typer.Option(metavar="UNIT", help="Unit of its time stamps, s, ms, us or ns (default: found out).")
]
BlockTokens = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Tokens of a block that has an id (default: found out).")
]


@trace.command()
def inspect(
    file: File,
    time_unit: TimeUnit = None,
    block_tokens: BlockTokens = None,
    requests: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests of the run that is compared with the whole.")
    ] = 200,
    as_json: AsJson = False,
) -> None:
    """Say what a trace is: format, units, rates, lengths, cache hits, what a run replays, and what looks wrong.

    Reads the file once, to its end. Exit code 2 when a line cannot be read.
    """
    from workloads import report_on_trace

    report = report_on_trace(file, time_unit=_known(time_unit), block_tokens=block_tokens, replayed=requests)
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=1))
        return
    typer.echo(_in_words(file, report))
    for warning in report.warnings:
        typer.echo(f"warning: {warning}")


@trace.command()
def convert(
    file: File,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New file; gzip where its name ends in .gz.")],
    time_unit: TimeUnit = None,
    block_tokens: BlockTokens = None,
) -> None:
    """Write a trace in Mooncake's format: in order of time, milliseconds from the first request on.

    Ids and their block size stay; a prompt without ids gets ids that no other has.
    """
    from workloads import convert_trace

    requests, notes = convert_trace(file, out, time_unit=_known(time_unit), block_tokens=block_tokens)
    for note in notes:
        typer.echo(f"netkv: {note}", err=True)
    typer.echo(f"{requests:,} requests: {out}")


def _known(time_unit: str | None) -> str | None:
    from experiments.running import SpecError
    from workloads import PER_SECOND

    if time_unit is not None and time_unit not in PER_SECOND:
        raise SpecError(f"--time-unit: {time_unit!r} is not one of {', '.join(PER_SECOND)}")
    return time_unit


def _in_words(file: Path, report: TraceReport) -> str:
    packed = f", {report.compression}" if report.compression else ""
    peak = "" if report.peak_rps is None else f" ({report.peak_rps:.3g} in the busiest 10 s)"
    unit = "dates" if report.time_unit == "date" else f"time stamps in {report.time_unit}"
    grid = f" on a grid of {report.grid_s:g} s" if report.grid_s else ""
    return "\n".join(
        (
            f"{file}: {report.format}{packed}",
            f"{_pace(report)}{peak}",
            f"{unit}{grid}, the first at {report.start_s:,.6g} s",
            f"prompts: mean {report.mean_input:,.0f} tokens, {_spread(report.input_lengths)}",
            f"answers: mean {report.mean_output:,.0f} tokens, {_spread(report.output_lengths)}",
            f"blocks of {report.block_tokens} tokens; an endless cache hits {report.hit_share:.1%} of prompt tokens",
            _what_is_replayed(report),
        )
    )


def _what_is_replayed(report: TraceReport) -> str:
    part = report.replayed
    if part.requests == report.requests:
        return f"`netkv run --requests {part.requests}` replays all of it"
    return (
        f"`netkv run --requests {part.requests}` replays the first {_pace(part)}:"
        f" prompts of {part.mean_input:,.0f} tokens, answers of {part.mean_output:,.0f}, hits {part.hit_share:.1%}"
    )


def _pace(found: TraceReport | TracePart) -> str:
    many = "1 request" if found.requests == 1 else f"{found.requests:,} requests"
    rate = "" if found.rate_rps is None else f", {found.rate_rps:.3g} requests/s"
    return f"{many} in {found.span_s:,.5g} s{rate}"


def _spread(lengths: dict[str, int]) -> str:
    return ", ".join(f"{name} {tokens:,}" for name, tokens in lengths.items())
