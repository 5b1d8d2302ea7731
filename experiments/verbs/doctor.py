"""`netkv doctor`: what is missing, and the command that mends it."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.markup import escape

from experiments.doctor import examine
from experiments.verbs.options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Look at this machine. Exit code 0 when the emulated world can run, 1 when something is missing."""
    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        console = Console()
        for finding in findings:
            mark = "[green]ok     [/]" if finding.ok else "[red]missing[/]"
            mend = f"  ->  {finding.mend}" if finding.mend else ""
            console.print(
                f"{mark} {finding.name:<20} {escape(finding.found)}{escape(mend)}", highlight=False, soft_wrap=True
            )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
