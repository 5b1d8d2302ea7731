"""What a request costs on a served model: KV bytes, prefill time, decode step time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from scenario.hardware import GPUS, GpuName
from scenario.measured_costs import read_measured
from scenario.model_shape import ModelShape
from scenario.sections import Section

PREFILL_TABLE_S: tuple[tuple[int, float], ...] = (
    (512, 0.057),
    (1024, 0.078),
    (2048, 0.137),
    (4096, 0.379),
    (8192, 0.848),
)
"""Prefill seconds by prompt tokens: Llama-2-70B, TP8, H100 (splitwise-sim, data/perf_model.csv, MIT)."""

STEP_TABLE_S: tuple[tuple[int, float], ...] = ((1, 0.030), (16, 0.034), (32, 0.039), (64, 0.050))
"""Decode step seconds by batch size: Llama-2-70B, TP8, H100 (splitwise-sim, data/perf_model.csv, MIT)."""

H100_DENSE_FLOPS = 989e12
"""BF16 tensor-core peak without sparsity (NVIDIA H100 SXM data sheet)."""

PREFILL_UTILISATION = 0.40
"""Share of the peak that a long prefill reaches; the Llama 3 report (arXiv 2407.21783) measures 38-43 % in training."""


HBM_UTILISATION = 0.80
LAYER_OVERHEAD_S = 80e-6
"""What a decode step adds to its bytes over the bandwidth: the share of it that is reached, and for each layer launches
and reductions over the GPUs. Ours, one pair for all: with it the three steps that vLLM publishes for H200 GPUs come out
0.2 to 10 % short (`netkv models` has these and others that nothing was fitted to)."""

TABLE_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""The batch sizes at which a roofline is put into a table of steps."""


class ModelSpec(Section):
    """A served model: what a request costs on one instance. Defaults: Llama-3-70B in fp16 on H100 GPUs."""

    name: str = Field("llama-3-70b", description="Name of the model, for people only.")
    kv_bytes_per_token: float = Field(
        327_680, gt=0, allow_inf_nan=False, description="KV cache of one token (kappa), bytes, above 0."
    )
    layers: int = Field(80, ge=1, description="Layers, at least 1; for prefill=flops.")
    hidden: int = Field(8192, ge=1, description="Hidden size, at least 1; for prefill=flops.")
    prefill: Literal["flops", "weights", "table"] = Field(
        "flops",
        description="Prefill time of n tokens. `flops`: Mooncake's eq. 1, layers x (4 n^2 hidden + 22 n hidden^2) FLOP,"
        " over the instance's effective FLOP/s. `weights`: the FLOP of `shape`, 2 x active weights a token and causal"
        " attention. `table`: `prefill_table_s`; splitwise-sim's measurement for eight GPUs, times 8 / GPUs of the"
        " instance, where none is given.",
    )
    prefill_table_s: tuple[tuple[int, float], ...] = Field(
        (),
        description="Pairs of prompt tokens (rising) and prefill time on one instance, s, above 0; for prefill=table.",
    )
    gpu: GpuName = Field(
        "h100", description=f"GPU of the instances, for the defaults of `gpu_flops` and `hbm_Bps`: {', '.join(GPUS)}."
    )
    gpu_flops: float = Field(
        H100_DENSE_FLOPS, gt=0, allow_inf_nan=False, description="Peak of one GPU, FLOP/s, above 0."
    )
    prefill_utilisation: float = Field(
        PREFILL_UTILISATION,
        gt=0,
        le=1,
        description="Share of the peak that prefill reaches, above 0, at most 1.",
    )
    step: Literal["table", "roofline"] = Field(
        "table",
        description="Duration of a decode step. `table`: `step_table_s`. `roofline`: that table is worked out from"
        " `shape`, `context_tokens` and the GPUs of an instance.",
    )
    shape: ModelShape = Field(
        ModelShape(), description="The model's published shape; for prefill=weights and step=roofline."
    )
    hbm_Bps: float = Field(
        GPUS["h100"].hbm_Bps, gt=0, allow_inf_nan=False, description="Memory bandwidth of one GPU, bytes/s, above 0."
    )
    hbm_utilisation: float = Field(
        HBM_UTILISATION, gt=0, le=1, description="Share of it that a decode step reaches, above 0, at most 1."
    )
    layer_overhead_s: float = Field(
        LAYER_OVERHEAD_S, ge=0, le=1, description="What each layer adds to a decode step, s, 0 to 1."
    )
    context_tokens: float = Field(
        12_000,
        ge=0,
        allow_inf_nan=False,
        description="Mean context of a running request, tokens, at least 0; for step=roofline. Default: the mean prompt"
        " of the conversation trace.",
    )
    step_table_s: tuple[tuple[int, float], ...] = Field(
        STEP_TABLE_S,
        description="Pairs of batch size (at least 1, rising) and duration of a decode step, s, above 0; interpolated.",
    )

    measured: Path | None = Field(
        None,
        description="Table of measured costs to take both tables from when the specification is read: a summary of"
        " aiconfigurator (CSV), or Vidur's mlp.csv with attention.csv beside it. The numbers then stand for the file.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_the_gpu(cls, given: Any) -> Any:
        gpu = given.get("gpu") if isinstance(given, dict) else None
        if not isinstance(gpu, str) or gpu not in GPUS:
            return given
        peak = GPUS[gpu]
        return {"gpu_flops": peak.bf16_flops, "hbm_Bps": peak.hbm_Bps, **given}

    @model_validator(mode="after")
    def _tables_rise(self) -> ModelSpec:
        _check_table("step_table_s: batch sizes", "step", self.step_table_s)
        if self.prefill_table_s:
            _check_table("prefill_table_s: prompts", "prefill", self.prefill_table_s)
        return self

    def prefill_s(self, tokens: int, gpus: int) -> float:
        """Time to prefill `tokens` on an instance of `gpus` GPUs, seconds."""
        if self.prefill == "table":
            if self.prefill_table_s:
                return interpolate(self.prefill_table_s, tokens)
            return interpolate(PREFILL_TABLE_S, tokens) * 8 / gpus
        if self.prefill == "weights":
            return self.shape.prefill_flop(tokens) / (gpus * self.gpu_flops * self.prefill_utilisation)
        flop = self.layers * (4 * tokens**2 * self.hidden + 22 * tokens * self.hidden**2)
        return flop / (gpus * self.gpu_flops * self.prefill_utilisation)

    def step_s(self, batch: float) -> float:
        """Duration of one decode step with `batch` running requests, seconds."""
        return interpolate(self.step_table_s, batch)

    def roofline_step_s(self, batch: float, gpus: int, context_tokens: float | None = None) -> float:
        """Duration of a decode step by the roofline of `shape` on so many GPUs, seconds.

        The longer of its bytes over the memory bandwidth and its FLOP over the peak, and the overhead of its layers
        (Williams et al., Roofline, 10.1145/1498765.1498785). context_tokens: instead of the specification's.
        """
        context = self.context_tokens if context_tokens is None else context_tokens
        reading_s = self.shape.step_bytes(batch, context) / (gpus * self.hbm_Bps * self.hbm_utilisation)
        computing_s = self.shape.step_flop(batch, context) / (gpus * self.gpu_flops * self.prefill_utilisation)
        return max(reading_s, computing_s) + self.shape.layers * self.layer_overhead_s

    def on(self, gpus: int) -> ModelSpec:
        """The same with the tables that follow from the GPUs of an instance: measured ones, or a roofline's.

        ValueError when `measured` cannot be read.
        """
        if self.measured is not None:
            found = read_measured(self.measured, gpus, self.shape.layers, self.context_tokens)
            return ModelSpec.model_validate(
                {**self.model_dump(), **found._asdict(), "prefill": "table", "step": "table", "measured": None}
            )
        if self.step == "table":
            return self
        table = tuple((batch, self.roofline_step_s(batch, gpus)) for batch in TABLE_BATCHES)
        return self.model_copy(update={"step_table_s": table})


def _check_table(what: str, one: str, table: tuple[tuple[int, float], ...]) -> None:
    name, sizes = what.split(":")[0], [size for size, _ in table]
    if not sizes or sizes[0] < 1 or sizes != sorted(set(sizes)):
        raise ValueError(f"{what} must start at 1 or above and rise")
    if any(not 0 < seconds < float("inf") for _, seconds in table):
        raise ValueError(f"{name}: every {one} must last a positive, finite time")


def interpolate(table: tuple[tuple[int, float], ...], at: float) -> float:
    """The value at `at` of a table of (x, y) with rising x: linear between its points, its first value before them, its
    last slope beyond them."""
    if at <= table[0][0] or len(table) == 1:
        return table[0][1]
    right = next((k for k, (x, _) in enumerate(table) if at <= x), len(table) - 1)
    (x0, y0), (x1, y1) = table[right - 1 : right + 1]
    return y0 + (at - x0) * (y1 - y0) / (x1 - x0)


SHAPES: dict[str, ModelShape] = {
    # The models' config.json at huggingface.co: meta-llama/Meta-Llama-3-70B, meta-llama/Meta-Llama-3-8B,
    # Qwen/Qwen3-32B, Qwen/Qwen3-30B-A3B, mistralai/Mixtral-8x7B-v0.1.
    "llama-3-70b": ModelShape(),
    "llama-3-8b": ModelShape(layers=32, hidden=4096, heads=32, intermediate=14_336),
    "qwen3-32b": ModelShape(layers=64, hidden=5120, heads=64, intermediate=25_600, vocabulary=151_936),
    "qwen3-30b-a3b": ModelShape(
        layers=48,
        hidden=2048,
        heads=32,
        kv_heads=4,
        intermediate=768,
        vocabulary=151_936,
        experts=128,
        experts_active=8,
    ),
    "mixtral-8x7b": ModelShape(
        layers=32, hidden=4096, heads=32, intermediate=14_336, vocabulary=32_000, experts=8, experts_active=2
    ),
}
"""The shape of every model that a specification can name."""


def derived(name: str) -> ModelSpec:
    """A model of `SHAPES` whose every cost follows from its shape."""
    shape = SHAPES[name]
    return ModelSpec(
        name=f"{name}-derived" if name == "llama-3-70b" else name,
        kv_bytes_per_token=shape.kv_bytes_per_token,
        layers=shape.layers,
        hidden=shape.hidden,
        shape=shape,
        prefill="weights",
        step="roofline",
    )


MODELS: dict[str, ModelSpec] = {
    "llama-3-70b": ModelSpec(),
    "llama-3-70b-derived": derived("llama-3-70b"),
    **{name: derived(name) for name in SHAPES if name != "llama-3-70b"},
}
