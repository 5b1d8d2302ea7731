"""`netkv oracle`: the network cost oracle for those who speak another protocol than `netkv.cost/v1`."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.verbs.options import Setting, changes_of

if TYPE_CHECKING:
    from controller import AltoSnapshot

oracle = typer.Typer(
    help="Serve the oracle's telemetry by a standard protocol.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DEFAULT_PORT = 8181
LONGEST = 3600.0


@oracle.callback()
def _group() -> None:
    """With one command, typer would take its name for an argument."""


@oracle.command()
def alto(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|SOCKET", help="The folder of a run, or an oracle's Unix socket.")
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="TCP port on 127.0.0.1; 0: any free one.")
    ] = DEFAULT_PORT,
    at: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Of a run: only the snapshot of that moment, from t = 0.")
    ] = None,
    pace: Annotated[
        float, typer.Option(metavar="TIMES", help="Of a run: play it so many times as fast as it was.")
    ] = 1.0,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", help="How often the telemetry is read and clients get updates.")
    ] = 1.0,
    spec_file: Annotated[
        Path | None, typer.Option("--spec", metavar="SPEC.yaml", help="Of a socket: whose fabric (default: ours).")
    ] = None,
    settings: Setting = None,
) -> None:
    """Serve telemetry as ALTO (RFC 7285, 8895, 9275, 9439) on the loopback, until interrupted.

    From a run of either world it plays what was recorded; no root is needed. From a socket it reads `netkv.cost/v1`
    documents, whoever publishes them. Begin with http://127.0.0.1:PORT/directory.
    """
    from controller import serve_alto
    from experiments.running import SpecError, read_spec

    for name, value in (("--pace", pace), ("--every", every)):
        if not 0 < value <= LONGEST:
            raise SpecError(f"{name} {value:g}: above 0 and at most {LONGEST:g} was expected")
    latest: Callable[[], AltoSnapshot | None]
    if source.exists() and stat.S_ISSOCK(source.stat().st_mode):
        from testbed import OracleSource

        if at is not None or pace != 1.0:
            raise SpecError("--at, --pace: are for the folder of a run; a socket has its own time")
        fabric, _ = read_spec(spec_file, changes_of(settings=settings)).build()
        latest = published = OracleSource(fabric, source)
        published()
        doubt = f"netkv: nothing usable yet: {published.problem}" if published.problem else ""
    else:
        from experiments.exporting import read_telemetry

        if spec_file is not None or settings:
            raise SpecError("--spec, --set: are for an oracle's socket; a run knows its own fabric")
        latest = recorded = read_telemetry(source)
        recorded.at_s, recorded.pace = at, pace
        fabric, doubt = recorded.fabric, ""
        if recorded() is None:
            raise SpecError(f"--at {at:g}: the first snapshot of this run is there at {recorded.read_s[0]:g} s")

    def say(bound: int) -> None:
        typer.echo(f"http://127.0.0.1:{bound}/directory: {len(fabric.instances)} endpoints; Ctrl-C ends it")
        if doubt:
            typer.echo(doubt, err=True)

    try:
        serve_alto(fabric, latest, port, every_s=every, say=say)
    except OSError as problem:
        raise SpecError(f"--port {port}: cannot be bound on 127.0.0.1: {problem.strerror}") from None
    except ValueError as problem:
        raise SpecError(f"{source}: {problem}") from None
