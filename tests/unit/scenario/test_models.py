"""What a model costs by its published shape, on which GPUs, and by a measured table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from experiments.checking.reference_model import prefill_s, step_s
from experiments.cli import app
from experiments.planning import checked
from experiments.verbs import choices
from scenario import GPUS, MODELS, SHAPES, ModelShape, ModelSpec, Scenario, derived
from scenario.hardware import GpuName


@pytest.mark.parametrize(
    ("model", "weights", "active", "kappa"),
    [
        ("llama-3-70b", 70.6e9, 68.5e9, 327_680),
        ("llama-3-8b", 8.03e9, 6.98e9, 131_072),
        ("qwen3-32b", 32.8e9, 31.2e9, 262_144),
        ("qwen3-30b-a3b", 30.5e9, 2.72e9, 98_304),
        ("mixtral-8x7b", 46.7e9, 12.6e9, 131_072),
    ],
)
def test_the_shape_gives_the_published_numbers_of_weights(
    model: str, weights: float, active: float, kappa: float
) -> None:
    shape = SHAPES[model]
    assert shape.weights == pytest.approx(weights, rel=2e-3)
    assert shape.active_weights == pytest.approx(active, rel=5e-3)
    assert shape.kv_bytes_per_token == kappa


def test_a_token_of_qwen3_32b_costs_what_its_weights_say() -> None:
    assert 2 * SHAPES["qwen3-32b"].active_weights == pytest.approx(62.4e9, rel=1e-3)
    assert pytest.approx(36.9e9, rel=1e-3) == 22 * 64 * 5120**2
    by_weights, by_hidden = derived("qwen3-32b"), ModelSpec(layers=64, hidden=5120)
    assert by_weights.prefill_s(1000, 4) / by_hidden.prefill_s(1000, 4) == pytest.approx(62.4 / 36.9, rel=0.02)


def test_a_small_model_decodes_in_a_few_milliseconds() -> None:
    small, large = (derived(name).roofline_step_s(1, 4, context_tokens=1000) for name in ("llama-3-8b", "llama-3-70b"))
    weights_s = 2 * (SHAPES["llama-3-8b"].weights - 128_256 * 4096) / (4 * 3.35e12 * 0.8)
    assert small == pytest.approx(weights_s + 32 * 80e-6, rel=0.01)
    assert small < 0.005 < large < 0.025


@pytest.mark.parametrize("model", SHAPES)
def test_a_step_grows_with_batch_and_context_and_falls_with_gpus(model: str) -> None:
    spec = derived(model)
    by_batch = [spec.roofline_step_s(batch, 4) for batch in (1, 2, 8, 64, 1000)]
    assert by_batch == sorted(by_batch)
    assert spec.roofline_step_s(8, 4, 20_000) > spec.roofline_step_s(8, 4, 2_000)
    assert spec.roofline_step_s(8, 8) < spec.roofline_step_s(8, 4)


def test_a_large_batch_of_short_contexts_is_bound_by_arithmetic() -> None:
    spec = derived("llama-3-70b")
    computing_s = 1000 * 2 * (spec.shape.active_weights + 128_256 * 8192) / (4 * 989e12 * 0.4)
    assert spec.roofline_step_s(1000, 4, context_tokens=0) == pytest.approx(computing_s + 80 * 80e-6)


def test_more_tokens_read_more_experts_until_all_are_read() -> None:
    shape = SHAPES["qwen3-30b-a3b"]
    one, many = shape.step_weights(1), shape.step_weights(1000)
    head = shape.vocabulary * shape.hidden
    assert one == pytest.approx(shape.active_weights + head)
    assert many == pytest.approx(shape.weights - head, rel=1e-6)


def test_a_gpu_brings_its_peaks_unless_they_are_given() -> None:
    assert set(GPUS) == set(get_args(GpuName)) == set(choices.GPU_NAMES)
    assert (ModelSpec(gpu="a100").gpu_flops, ModelSpec(gpu="a100").hbm_Bps) == (312e12, 2.039e12)
    assert ModelSpec(gpu="b200", hbm_Bps=1e12).hbm_Bps == 1e12
    assert (ModelSpec().gpu_flops, ModelSpec().hbm_Bps) == (GPUS["h100"].bf16_flops, GPUS["h100"].hbm_Bps)


@pytest.mark.parametrize("gpus", [2, 8])
def test_a_scenario_has_the_steps_of_its_own_instances(gpus: int) -> None:
    made = Scenario.model_validate({"model": {"step": "roofline"}, "fabric": {"gpus_per_instance": gpus}})
    assert made.model.step_s(16) == pytest.approx(ModelSpec().roofline_step_s(16, gpus))
    again = Scenario.model_validate(made.model_dump(mode="json"))
    assert again.model == made.model


def test_a_preset_may_be_changed() -> None:
    made = Scenario.model_validate({"model": {"preset": "llama-3-8b", "gpu": "h200", "context_tokens": 1000}}).model
    assert (made.name, made.gpu, made.hbm_Bps, made.shape) == ("llama-3-8b", "h200", 4.8e12, SHAPES["llama-3-8b"])
    assert made.step_s(1) == pytest.approx(made.roofline_step_s(1, 4, 1000))
    with pytest.raises(ValidationError, match=r"'llama-3-9b' is not one of .*llama-3-8b"):
        Scenario.model_validate({"model": {"preset": "llama-3-9b"}})


def test_the_checker_reckons_alike() -> None:
    for name in MODELS:
        made = Scenario.model_validate({"model": name}).model
        fields = made.model_dump(mode="json")
        tokens = np.array([1.0, 100.0, 50_000.0])
        assert prefill_s(fields, 4, tokens) == pytest.approx([made.prefill_s(int(n), 4) for n in tokens])
        assert step_s(fields, np.array([1.0, 7.0, 64.0])) == pytest.approx([made.step_s(b) for b in (1, 7, 64)])


def test_published_measurements_are_met_as_the_page_says() -> None:
    errors = [abs(row["error_percent"]) for row in checked() if "splitwise" not in row["source"]]
    assert max(errors) < 12
    assert all(row["error_percent"] < -30 for row in checked() if "splitwise" in row["source"])


def test_the_verb_prints_every_model_within_the_width_of_a_terminal() -> None:
    said = CliRunner().invoke(app, ["models", "--gpu", "h200", "--gpus", "8"])
    assert said.exit_code == 0, said.output
    assert all(f"\n{model} " in said.output for model in SHAPES)
    assert max(map(len, said.output.splitlines())) <= 80
    told = json.loads(CliRunner().invoke(app, ["models", "--json"]).output)
    assert [one["model"] for one in told["models"]] == list(SHAPES)
    assert len(told["published"]) == 10


def test_no_more_experts_pass_a_token_than_there_are() -> None:
    with pytest.raises(ValidationError, match="experts_active: 3 of 2 experts"):
        ModelShape(experts=2, experts_active=3)


# Measured tables

SUMMARY = "model,isl,osl,bs,ttft,tpot,context_latency,tp,pp\n"


def read(path: Path, gpus: int = 4, **model: Any) -> ModelSpec:
    given = {"model": {"measured": str(path), **model}, "fabric": {"gpus_per_instance": gpus}}
    return Scenario.model_validate(given).model


def test_a_summary_of_aiconfigurator_gives_both_tables(tmp_path: Path) -> None:
    file = tmp_path / "summary.csv"
    rows = ["x,1000,500,1,60,8,50,4,1", "x,4000,500,1,250,8.2,210,4,1", "x,1000,500,16,900,10,800,4,1"]
    file.write_text(SUMMARY + "\n".join([*rows, "x,1000,500,1,99,99,99,8,1", "x,1000,500,64,9,9,9,4,1"]) + "\n")
    found = read(file)
    assert found.prefill_table_s == ((1000, 0.050), (4000, 0.210))
    assert found.step_table_s == ((1, pytest.approx(0.0081)), (16, 0.010), (64, 0.010))  # never falls
    assert found.prefill_s(2500, 4) == pytest.approx(0.130)
    assert (found.prefill, found.step, found.measured) == ("table", "table", None)
    assert read(file, 8).prefill_table_s == ((1000, 0.099),)


def test_a_profile_of_vidur_is_summed_over_operations_and_layers(tmp_path: Path) -> None:
    head = "num_tokens,num_tensor_parallel_workers,time_stats.emb.median,time_stats.mlp_up_proj.median,"
    (tmp_path / "mlp.csv").write_text(
        head + "time_stats.attn_pre_proj.median,time_stats.mlp_up_proj.std\n"
        "1,4,9,0.01,0.02,7\n16,4,9,0.02,0.02,7\n1,8,9,5,5,7\n"
    )
    (tmp_path / "attention.csv").write_text(
        "batch_size,prefill_chunk_size,kv_cache_size,is_prefill,num_tensor_parallel_workers,"
        "time_stats.attn_prefill.median,time_stats.attn_decode.median\n"
        "1,1,0,True,4,0.1,\n1,16,0,True,4,0.4,\n1,0,1000,False,4,,0.05\n1,0,3000,False,4,,0.15\n16,0,2000,False,4,,0.5\n"
    )
    found = read(tmp_path / "mlp.csv", context_tokens=2000, shape={"layers": 10})
    assert found.prefill_table_s == ((1, pytest.approx(10 * 0.13e-3)), (16, pytest.approx(10 * 0.44e-3)))
    assert found.step_table_s == ((1, pytest.approx(10 * 0.13e-3)), (16, pytest.approx(10 * 0.54e-3)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n", r"columns a, b, .*expected aiconfigurator's isl, bs, ttft, tpot or Vidur's num_tokens"),
        (SUMMARY, "no rows below a line of column names"),
        (SUMMARY + "x,1000,1,1,60,8,50,8,1\n", "no row for 4 GPUs an instance, tp x pp is 8: set fabric.gpus_per"),
        (SUMMARY + "x,1000,1,1,60,fast,50,4,1\n", "line 2: tpot 'fast': a number was expected"),
        (SUMMARY + "x,1000,1,1.5,60,8,50,4,1\n", "line 2: bs '1.5': a whole number was expected"),
        ("num_tokens,num_tensor_parallel_workers\n1,4\n", r"no column time_stats\.\*\.median"),
        ("\0\1\2", "expected aiconfigurator's|no rows|cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_line(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text(text)
    with pytest.raises(ValidationError, match=complaint):
        read(tmp_path / "costs.csv")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"none\.csv: no such file"):
        read(tmp_path / "none.csv")
