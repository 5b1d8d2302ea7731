"""`netkv explain`: why a request went where it did, what the others would have cost, and the regret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from experiments.verbs.options import AsJson


def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, of either world.")],
    request: Annotated[
        str | None, typer.Argument(metavar="[REQUEST]", help="The number of a request (default: a sample of them).")
    ] = None,
    sample: Annotated[float, typer.Option(metavar="PERCENT", help="Decisions in the sample, above 0.")] = 5.0,
    over: Annotated[float, typer.Option(metavar="MS", help="Count the decisions with a regret above it.")] = 10.0,
    each: Annotated[
        bool, typer.Option("--each", help="Explain each decision of the sample in words, before the summary.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Explain one decision of a run, or sum up a sample of them.

    For each decode instance: what the policy predicted it to cost, by parts, and what it would have cost in the fluid
    model with the same background and the same other transfers. The regret is that of the one chosen less the least.
    The decision is rebuilt from the run's folder; where it differs from the record, a line says so.
    """
    from experiments.explaining import as_json as told
    from experiments.explaining import explain_requests, in_sentences, summarise_explanations, summary_text
    from experiments.running import SpecError, read_table, strict

    if request is not None and not request.isdecimal():
        raise SpecError(f"{request}: the number of a request was expected")
    if not 0 < sample <= 100:
        raise SpecError(f"--sample {sample:g}: above 0 and at most 100 was expected")
    if request is not None:
        explanation = explain_requests(run, [int(request)])[0]
        typer.echo(json.dumps(strict(told(explanation)), indent=1) if as_json else in_sentences(explanation))
        return
    explanations = explain_requests(run, None, sample / 100)
    found = summarise_explanations(explanations, len(read_table(run, "decisions", ["request_id"])), over)
    if as_json:
        found["requests"] = [told(one) for one in explanations]
        typer.echo(json.dumps(strict(found), indent=1))
        return
    for explanation in explanations if each else ():
        typer.echo(f"{in_sentences(explanation)}\n")
    typer.echo(summary_text(found))
