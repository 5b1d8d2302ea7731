"""`netkv report`: a folder of results as one page that needs no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from experiments.verbs.options import AsJson

PAGE = "report.html"


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run, a sweep, or a folder that holds several.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The page (default: DIR/report.html).")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the answer, the paper's figures, the fabric at work and the evidence as one self-contained page.

    Runs whose verdict is invalid are in no figure. A report that is there already is replaced.
    """
    from experiments.running import StoreError

    if not folder.is_dir():  # before all that has to be loaded
        raise StoreError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}")
    from experiments.report import write_report  # Plotly and Matplotlib take longer to load than all else

    place = folder / PAGE if out is None else out
    written = write_report(folder, place)
    if as_json:
        typer.echo(json.dumps(written, indent=1))
        return
    figures, scenes, replayed = len(written["figures"]), len(written["scenes"]), written["replayed"]
    typer.echo(
        f"{place}: {written['bytes'] / 1e6:.1f} MB in {written['seconds']:.1f} s; {_count(figures, 'figure')},"
        f" {_count(scenes, 'scene')} of the fabric, {_count(replayed, 'run')} replayed"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
