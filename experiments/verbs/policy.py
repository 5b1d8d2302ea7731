"""`netkv policy`: a policy held against the contract before it is put under test."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from experiments.verbs import choices
from experiments.verbs.options import AsJson

policy = typer.Typer(
    help="Hold a policy of your own against the contract.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

NAME_WIDTH = 36


@policy.callback()
def group() -> None:
    """Hold a policy of your own against the contract."""


@policy.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="POLICY",
            help="Your own as `module:Class`, or http://127.0.0.1:PORT/PATH or http+unix:/SOCKET:/PATH of a router.",
            autocompletion=choices.policies,
        ),
    ],
    limit_s: Annotated[
        float, typer.Option("--limit", min=0.01, metavar="SECONDS", help="Longest decision (policy_limit_s).")
    ] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Say which parts of the contract a class or a router behind HTTP keeps, and how long its decisions take.

    Asks it some hundreds of times, as runs do. Exit code 1: something does not hold that must.
    """
    from experiments.planning import check_policy, times

    found = check_policy(name, limit_s)
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"holds": found.holds}, indent=1))
    else:
        for clause in found.clauses:
            holds = "holds" if clause.holds else "FAILS" if clause.level == "must" else "does not hold"
            typer.echo(f"{holds:<13}  {clause.name:<{NAME_WIDTH}}  {clause.found}")
        if found.beside_ms:
            typer.echo(f"A decision of netkv_static in this process, for comparison: {times(found.beside_ms)}.")
        verdict = "It can be put under test" if found.holds else "It cannot be put under test: see FAILS"
        typer.echo(f"{verdict} (--policy {name}).")
    if not found.holds:
        raise typer.Exit(1)
