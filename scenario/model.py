"""What a request costs on a served model: KV bytes, prefill time, decode step time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

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


class ModelSpec(Section):
    """A served model: what a request costs on one instance. Defaults: Llama-3-70B in fp16 on H100 GPUs."""

    name: str = Field("llama-3-70b", description="Name of the model, for people only.")
    kv_bytes_per_token: float = Field(
        327_680, gt=0, allow_inf_nan=False, description="KV cache of one token (kappa), bytes, above 0."
    )
    layers: int = Field(80, ge=1, description="Layers, at least 1; for prefill=flops.")
    hidden: int = Field(8192, ge=1, description="Hidden size, at least 1; for prefill=flops.")
    prefill: Literal["flops", "table"] = Field(
        "flops",
        description="Prefill time of n tokens. `flops`: Mooncake's eq. 1, layers x (4 n^2 hidden + 22 n hidden^2) FLOP,"
        " over the instance's effective FLOP/s. `table`: splitwise-sim's measurement for eight GPUs, interpolated,"
        " times 8 / GPUs of the instance.",
    )
    gpu_flops: float = Field(
        H100_DENSE_FLOPS, gt=0, allow_inf_nan=False, description="Peak of one GPU, FLOP/s, above 0; for prefill=flops."
    )
    prefill_utilisation: float = Field(
        PREFILL_UTILISATION,
        gt=0,
        le=1,
        description="Share of the peak that prefill reaches, above 0, at most 1; for prefill=flops.",
    )
    step_table_s: tuple[tuple[int, float], ...] = Field(
        STEP_TABLE_S,
        description="Pairs of batch size (at least 1, rising) and duration of a decode step, s, above 0; interpolated.",
    )

    @model_validator(mode="after")
    def _steps_rise(self) -> ModelSpec:
        batches = [batch for batch, _ in self.step_table_s]
        if not batches or batches[0] < 1 or batches != sorted(set(batches)):
            raise ValueError("step_table_s: batch sizes must start at 1 or above and rise")
        if any(not 0 < step_s < float("inf") for _, step_s in self.step_table_s):
            raise ValueError("step_table_s: every step must last a positive, finite time")
        return self

    def prefill_s(self, tokens: int, gpus: int) -> float:
        """Time to prefill `tokens` on an instance of `gpus` GPUs, seconds."""
        if self.prefill == "table":
            return interpolate(PREFILL_TABLE_S, tokens) * 8 / gpus
        flop = self.layers * (4 * tokens**2 * self.hidden + 22 * tokens * self.hidden**2)
        return flop / (gpus * self.gpu_flops * self.prefill_utilisation)

    def step_s(self, batch: float) -> float:
        """Duration of one decode step with `batch` running requests, seconds."""
        return interpolate(self.step_table_s, batch)


def interpolate(table: tuple[tuple[int, float], ...], at: float) -> float:
    """The value at `at` of a table of (x, y) with rising x: linear between its points, its first value before them, its
    last slope beyond them."""
    if at <= table[0][0] or len(table) == 1:
        return table[0][1]
    right = next((k for k, (x, _) in enumerate(table) if at <= x), len(table) - 1)
    (x0, y0), (x1, y1) = table[right - 1 : right + 1]
    return y0 + (at - x0) * (y1 - y0) / (x1 - x0)


MODELS: dict[str, ModelSpec] = {
    # kappa and shapes: vidur model_config.py and LLMServingSim configs; 2 x layers x KV heads x 128 x 2 B.
    "llama-3-70b": ModelSpec(),
    "llama-3-8b": ModelSpec(name="llama-3-8b", kv_bytes_per_token=131_072, layers=32, hidden=4096),
    "qwen3-32b": ModelSpec(name="qwen3-32b", kv_bytes_per_token=262_144, layers=64, hidden=5120),
    "qwen3-30b-a3b": ModelSpec(name="qwen3-30b-a3b", kv_bytes_per_token=98_304, layers=48, hidden=2048),
}
