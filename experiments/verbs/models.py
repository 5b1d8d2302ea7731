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
    typer.echo(f"{'':14}{'weights, 10^9':>16}{'KV, B':>10}{'GFLOP a token':>19}{'prefill':>9}{'decode step, ms':>19}")
    head = ("all", "active", "a token", "2 x active", "22 l d^2", "8k, ms", "b = 1", "16", "64")
    typer.echo(f"{'':14}{head[0]:>8}{head[1]:>8}{head[2]:>10}{head[3]:>11}{head[4]:>9}{head[5]:>8}", nl=False)
    typer.echo(f"{head[6]:>7}{head[7]:>6}{head[8]:>6}")
    for one in costs:
        typer.echo(_line(one))
    typer.echo("\nPublished measurements, ms, and the derivation:\n")
    for row in rows:
        what = f"prefill {row['prefill']:,}" if row["prefill"] else f"step, batch {row['batch']}"
        typer.echo(
            f"{row['model']:13}{row['gpus']} x {row['gpu'].upper():5}{what:15}{row['measured_ms']:>7.1f}"
            f"{row['derived_ms']:>7.1f}{row['error_percent']:>+7.1f} %  {row['source']}"
        )


def _line(one: ModelCosts) -> str:
    steps = "".join(f"{one.step_s[batch] * 1e3:>{width}.1f}" for batch, width in ((1, 7), (16, 6), (64, 6)))
    return (
        f"{one.model:14}{one.weights / 1e9:>8.1f}{one.active_weights / 1e9:>8.1f}{one.kv_bytes_per_token:>10,.0f}"
        f"{one.prefill_flop / 1e9:>11.1f}{one.mooncake_flop / 1e9:>9.1f}{one.prefill_s * 1e3:>8.0f}{steps}"
    )
