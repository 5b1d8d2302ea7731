"""`netkv clean`: put back what a killed run could not."""

from __future__ import annotations

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
    from experiments.running import sweep_away_partial
    from testbed import reclaim, require_root

    require_root()
    typer.echo("send buffer: restored" if reclaim() else "send buffer: nothing to restore")
    parents = sorted({folder.parent for folder in results.rglob(".*.partial-*")}) if results.is_dir() else []
    partial = [folder for parent in parents for folder in sweep_away_partial(parent)]
    for folder in partial:
        typer.echo(f"removed {folder}")
    typer.echo(f"half-written runs: {len(partial) or 'none'}")
