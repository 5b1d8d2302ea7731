"""GPUs as a roofline sees them: peak arithmetic and memory bandwidth, by their makers' data sheets."""

from __future__ import annotations

from typing import Literal, NamedTuple

GpuName = Literal["h100", "h200", "a100", "b200"]


class Gpu(NamedTuple):
    """Peak in BF16 without sparsity, FLOP/s; bandwidth of its memory, bytes/s; that memory, bytes."""

    bf16_flops: float
    hbm_Bps: float
    hbm_B: float


GPUS: dict[str, Gpu] = {
    # NVIDIA data sheets, SXM modules: H100 and H200 (1,979 TFLOP/s with sparsity), A100 80 GB, and the DGX B200's
    # totals over its eight (72 PFLOP/s in FP8 and 64 TB/s: 2.25 PFLOP/s in BF16 and 8 TB/s each).
    "h100": Gpu(989e12, 3.35e12, 80e9),
    "h200": Gpu(989e12, 4.8e12, 141e9),
    "a100": Gpu(312e12, 2.039e12, 80e9),
    "b200": Gpu(2250e12, 8.0e12, 180e9),
}
"""Every GPU of `GpuName`."""
