"""`netkv clean`: put back what a killed run could not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer


def clean(
    results: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where runs are kept.")] = Path("results"),
) -> None:
    """Restore the host's send buffer if its guardian was killed, and remove half-written run folders.

    There is nothing else: the kernel removes a sandbox with the process that started it. A run in progress is left
    alone.
    """
    from testbed import reclaim, require_root

    require_root()
    typer.echo("send buffer: restored" if reclaim() else "send buffer: nothing to restore")
    partial = sorted(results.rglob(".*.partial-*")) if results.is_dir() else []
    for folder in partial:
        shutil.rmtree(folder)
        typer.echo(f"removed {folder}")
    typer.echo(f"half-written runs: {len(partial) or 'none'}")
