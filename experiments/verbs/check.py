"""`netkv check`: whether the records of a run are a history that could have happened."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from experiments.verbs.options import AsJson

MOST_LINES = 20
"""Violations of one invariant by one run that are printed; --json has all."""


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run or a sweep, of either world.")],
    as_json: AsJson = False,
) -> None:
    """Check the records of a run, or of all runs of a sweep.

    The checker shares no code with what made them. It replays every request from its records: one end for each, bytes,
    distances and times that add up, limits of instances at every instant, links no fuller than they can be, and a
    summary that sums it up. Exit code 1: something does not hold; a line says what.
    """
    from experiments.checking import INVARIANTS, check_folder

    found = check_folder(folder)
    violations = [one for those in found.values() for one in those]
    if as_json:
        rows = [{name: getattr(one, name) for name in JSON_FIELDS} for one in violations]
        typer.echo(json.dumps({"runs": sorted(found), "invariants": list(INVARIANTS), "violations": rows}, indent=1))
    else:
        counts = Counter((one.run, one.invariant) for one in violations)
        printed: Counter[tuple[str, str]] = Counter()
        for one in violations:
            of = one.run, one.invariant
            printed[of] += 1
            if printed[of] <= MOST_LINES:
                typer.echo(str(one))
            if printed[of] == counts[of] > MOST_LINES:
                typer.echo(f"{one.run}: {one.invariant}: {counts[of] - MOST_LINES} more (--json has all)")
        runs = f"{len(found)} run{'s' if len(found) != 1 else ''}"
        typer.echo(f"{runs}: " + (f"{len(violations)} violations" if violations else "every invariant holds"))
    if violations:
        raise typer.Exit(1)


JSON_FIELDS = ("run", "request", "subject", "invariant", "found", "expected")
