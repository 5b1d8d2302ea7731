"""`netkv init`: a specification to start from, and its JSON schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

SPEC = Path("spec.yaml")


def init(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to; must not exist yet (default: spec.yaml).")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="The JSON schema instead, by default to standard output.")
    ] = False,
) -> None:
    """Write a specification with every field at its default, under its description, range and unit.

    An editor completes and checks a specification by its schema: write it to netkv.schema.json, and have the line
    "# yaml-language-server: $schema=netkv.schema.json" first in the specification.
    """
    from experiments.planning import spec_schema, spec_template
    from experiments.running import write_new_file

    text = json.dumps(spec_schema(), indent=1) + "\n" if schema else spec_template()
    if schema and file is None:
        typer.echo(text, nl=False)
        return
    place = file or SPEC
    write_new_file(place, text)
    said = "the JSON schema" if schema else f"every field at its default; next: netkv plan {place}, netkv run {place}"
    typer.echo(f"{place}: {said}")
