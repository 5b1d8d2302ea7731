"""`netkv models`: what each model costs by its published shape, and how far that is from published measurements."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.verbs import choices
from experiments.verbs.options import AsJson

if TYPE_CHECKING:
    from experiments.planning import ModelCosts

WIDTHS = (6, 7, 9, 9, 9, 8, 6, 6, 6)
"""Of the columns of costs."""


def models(
    gpu: Annotated[
        str, typer.Option(metavar="GPU", help=f"GPU of the instances: {', '.join(choices.GPU_NAMES)}.")
    ] = "h100",
    gpus: Annotated[int, typer.Option(metavar="N", min=1, max=1024, help="GPUs of an instance.")] = 4,
    context: Annotated[
        int, typer.Option(metavar="TOKENS", min=0, max=10_000_000, help="Mean context of a running request.")
    ] = 12_000,
    as_json: AsJson = False,
) -> None:
    """Print what each model costs by its published shape, and the derivation beside published measurements."""
    from experiments.planning import checked, model_costs
    from experiments.running import SpecError

    if gpu not in choices.GPU_NAMES:
        raise SpecError(f"--gpu: {gpu!r} is not one of {', '.join(choices.GPU_NAMES)}")
    costs, rows = model_costs(gpu, gpus, context), checked()
    if as_json:
        said = {"gpu": gpu, "gpus": gpus, "context_tokens": context}
        typer.echo(json.dumps({**said, "models": [asdict(one) for one in costs], "published": rows}, indent=1))
        return
    typer.echo(f"On {gpus} x {gpu.upper()}, decode at {context:,} tokens of context a request:\n")
    typer.echo(f"{'':14}{'weights, 10^9':>13}{'KV':>9}{'GFLOP a token':>18}{'prefill':>9}{'step, ms':>17}")
    head = ("all", "active", "B/token", "2 active", "22 l d^2", "8k, ms", "b=1", "16", "64")
    typer.echo(f"{'':14}" + "".join(f"{word:>{width}}" for word, width in zip(head, WIDTHS, strict=True)))
    for one in costs:
        typer.echo(_line(one))
    typer.echo("\nPublished measurements, ms, and the derivation:\n")
    sources = list(dict.fromkeys(row["source"] for row in rows))
    for row in rows:
        what = f"prefill {row['prefill']:,}" if row["prefill"] else f"step, batch {row['batch']}"
        typer.echo(
            f"{row['model']:13}{row['gpus']} x {row['gpu'].upper():5}{what:15}{row['measured_ms']:>7.1f}"
            f"{row['derived_ms']:>7.1f}{row['error_percent']:>+7.1f} %  [{sources.index(row['source']) + 1}]"
        )
    for number, source in enumerate(sources, start=1):
        typer.echo(f"[{number}] {source}")


def _line(one: ModelCosts) -> str:
    words = (
        *(f"{one.weights / 1e9:.1f}", f"{one.active_weights / 1e9:.1f}", f"{one.kv_bytes_per_token:,.0f}"),
        *(f"{one.prefill_flop / 1e9:.1f}", f"{one.mooncake_flop / 1e9:.1f}", f"{one.prefill_s * 1e3:.0f}"),
        *(f"{one.step_s[batch] * 1e3:.1f}" for batch in (1, 16, 64)),
    )
    return f"{one.model:14}" + "".join(f"{word:>{width}}" for word, width in zip(words, WIDTHS, strict=True))
