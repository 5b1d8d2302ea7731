"""The costs of every model by its published shape, and the derivation held against published measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from scenario import GPUS, SHAPES, ModelShape, ModelSpec, derived


@dataclass(frozen=True)
class ModelCosts:
    """What a request costs on an instance, by the model's shape. Seconds, FLOP and bytes of the real system.

    `mooncake_flop`: the linear part of Mooncake's equation 1, 22 layers hidden^2, beside `prefill_flop` a token, which
    is 2 x active weights. `prefill_s`: of 8,192 tokens. `step_s`: by batch, at the given context.
    """

    model: str
    weights: float
    active_weights: float
    kv_bytes_per_token: float
    prefill_flop: float
    mooncake_flop: float
    prefill_s: float
    step_s: dict[int, float]


def model_costs(gpu: str, gpus: int, context_tokens: float) -> list[ModelCosts]:
    """Every model of `scenario.SHAPES` on an instance of so many GPUs of a kind."""
    found = []
    for name, shape in SHAPES.items():
        model = _on(shape, gpu, context_tokens)
        found.append(
            ModelCosts(
                model=name,
                weights=shape.weights,
                active_weights=shape.active_weights,
                kv_bytes_per_token=shape.kv_bytes_per_token,
                prefill_flop=2.0 * shape.active_weights,
                mooncake_flop=22.0 * shape.layers * shape.hidden**2,
                prefill_s=model.prefill_s(8192, gpus),
                step_s={batch: model.roofline_step_s(batch, gpus) for batch in (1, 16, 64)},
            )
        )
    return found


class Published(NamedTuple):
    """A measurement that was published: what, milliseconds, of which model on which GPUs, and where.

    prefill: prompt tokens, or 0 for a decode step of `batch` requests at `context` tokens each.
    """

    model: str
    gpu: str
    gpus: int
    weight_bytes: float
    prefill: int
    batch: int
    context: int
    measured_ms: float
    source: str


QWQ_32B = ModelShape(layers=64, hidden=5120, heads=40, kv_heads=8, intermediate=27_648, vocabulary=152_064)
LLAMA_2_70B = ModelShape(vocabulary=32_000)
CHECKED_SHAPES = {**SHAPES, "qwq-32b": QWQ_32B, "llama-2-70b": LLAMA_2_70B}

VLLM_CI = "vLLM performance benchmark, build 9515: 32 in, 128 out, batch 8, over 128"
SPLITWISE = "splitwise-sim, perf_model.csv (2023)"
NIM = "NVIDIA NIM 1.8.0, Llama-3.3-70B, FP8, 5,000 in, concurrency 1"

PUBLISHED = (
    Published("llama-3-8b", "h200", 1, 2, 0, 8, 96, 833.421 / 128, VLLM_CI),
    Published("llama-3-70b", "h200", 4, 2, 0, 8, 96, 2077.53 / 128, VLLM_CI),
    Published("mixtral-8x7b", "h200", 2, 2, 0, 8, 96, 1917.44 / 128, VLLM_CI),
    Published("qwq-32b", "h200", 8, 2, 0, 1, 600, 6.70, "vLLM issue 18725: mean TPOT, concurrency 1"),
    Published("llama-3-70b", "h100", 2, 1, 0, 1, 5250, 18.58, NIM),
    Published("llama-3-70b", "h100", 2, 1, 5000, 1, 0, 406.77, NIM),
    Published("llama-2-70b", "h100", 8, 2, 0, 1, 1000, 30.0, SPLITWISE),
    Published("llama-2-70b", "h100", 8, 2, 0, 64, 1000, 50.0, SPLITWISE),
    Published("llama-2-70b", "h100", 8, 2, 2048, 1, 0, 137.0, SPLITWISE),
    Published("llama-2-70b", "h100", 8, 2, 8192, 1, 0, 848.0, SPLITWISE),
)
"""The first three are what the two numbers of a step were chosen by; nothing was fitted to the others."""


def checked() -> list[dict[str, Any]]:
    """Each of `PUBLISHED`, what the derivation says of it, and the error, a row a measurement."""
    return [
        {
            **one._asdict(),
            "derived_ms": (found_ms := _derived_ms(one)),
            "error_percent": 100 * (found_ms / one.measured_ms - 1),
        }
        for one in PUBLISHED
    ]


def _derived_ms(one: Published) -> float:
    shape = CHECKED_SHAPES[one.model].model_copy(update={"weight_bytes": one.weight_bytes})
    model = _on(shape, one.gpu, one.context)
    if one.prefill:
        return model.prefill_s(one.prefill, one.gpus) * 1e3
    return model.roofline_step_s(one.batch, one.gpus) * 1e3


def _on(shape: ModelShape, gpu: str, context_tokens: float) -> ModelSpec:
    """A model of that shape on that GPU. Weights of one byte are multiplied at twice the peak of BF16."""
    peak = GPUS[gpu]
    flops = peak.bf16_flops * (2 / shape.weight_bytes)
    changes = {"shape": shape, "gpu": gpu, "gpu_flops": flops, "hbm_Bps": peak.hbm_Bps}
    return derived("llama-3-8b").model_copy(update={**changes, "context_tokens": context_tokens})
