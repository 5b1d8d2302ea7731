"""Gains of an emulated sweep by way of the fluid model: what is told, what is narrower, which long runs are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.comparing import gains_by_twins, long_runs, with_told
from experiments.questions import QUESTIONS
from experiments.running import StoreError, read_manifest, read_sweep, spec_of

LABELS = {"workload": "rag", "verdict": "valid", "status": "completed"}
AXES, REFERENCES = ["time_scale_s"], ["netkv_static"]


def runs(requests: int, seeds: int, gain: float = 0.0, world: str = "analytic") -> pd.DataFrame:
    """Static and Full on requests whose times have a heavy tail; Full's are a share `gain` shorter."""
    size = np.concatenate([np.random.default_rng(seed).lognormal(5, 1.3, requests) for seed in range(seeds)])
    frames = []
    for policy, refresh_s, share in (("netkv_static", None, 1.0), ("netkv_full", 1.0, 1.0 - gain)):
        table = pd.DataFrame(
            {
                **LABELS, "world": world, "time_scale_s": 1.5, "policy": policy, "refresh_s": refresh_s,
                "seed": np.repeat(range(seeds), requests), "request_id": np.tile(range(requests), seeds),
                "run": np.repeat([f"{world}-{policy}-{seed}" for seed in range(seeds)], requests),
                "ttft_ms": share * size, "kv_transfer_ms": share * size,
            }
        )  # fmt: skip
        frames.append(table)
    return pd.concat(frames, ignore_index=True)


def as_packets(twins: pd.DataFrame, longer: dict[str, float], spread: float) -> pd.DataFrame:
    """Every time longer by a share that depends on the policy, and by noise of its own."""
    rng = np.random.default_rng(7)
    share = twins["policy"].map(longer) * rng.normal(1.0, spread, len(twins))
    return twins.assign(ttft_ms=twins["ttft_ms"] * share, kv_transfer_ms=twins["kv_transfer_ms"] * share)


def row(found: pd.DataFrame, quantity: str = "mean TTFT") -> pd.Series[Any]:
    (place,) = found.index[found["quantity"] == quantity]
    return found.loc[place]


def test_what_packets_change_alike_changes_no_gain() -> None:
    twins = runs(150, 2, 0.2)
    packets = as_packets(twins, {"netkv_static": 1.1, "netkv_full": 1.1}, 0.0)
    found = gains_by_twins(packets, twins, runs(4000, 3, 0.2), AXES, REFERENCES)
    for quantity in ("mean TTFT", "mean KV transfer"):
        one = row(found, quantity)
        assert one["told_percent"] == pytest.approx(-20.0, abs=1e-9)
        assert one["told_percent"] == pytest.approx(one["fluid_percent"])


def test_what_packets_change_of_one_policy_alone_is_told_and_narrower_than_the_runs_tell_it() -> None:
    """Full gains 20 % in the fluid model; with packets that cost it 5 % more, 16 %."""
    twins = runs(150, 2, 0.2)
    packets = as_packets(twins, {"netkv_static": 1.0, "netkv_full": 1.05}, 0.2)
    one = row(gains_by_twins(packets, twins, runs(4000, 3, 0.2), AXES, REFERENCES))
    assert one["told_low"] < -16.0 < one["told_high"]
    assert (one["seeds"], one["requests"], one["reference"]) == (2, 300 - 2 * 15, "netkv_static")


def test_a_lucky_draw_of_requests_is_not_taken_for_a_gain() -> None:
    """The emulated requests happen to be those of which Full wins most; the fluid model's many are not."""
    long = runs(4000, 3)
    noise = np.random.default_rng(3).normal(1.0, 0.5, len(long) // 2)
    full = long["policy"] == "netkv_full"
    for column in ("ttft_ms", "kv_transfer_ms"):
        long.loc[full, column] *= noise
    twins = long[long["request_id"] < 120]
    packets = as_packets(twins, {"netkv_static": 1.0, "netkv_full": 1.0}, 0.02)
    one = row(gains_by_twins(packets, twins, long, AXES, REFERENCES))
    truth = one["fluid_percent"]
    assert abs(one["emulated_percent"] - truth) > 5.0
    assert one["told_low"] < truth < one["told_high"]
    assert one["told_high"] - one["told_low"] < (one["emulated_high"] - one["emulated_low"]) / 2


def test_every_reference_that_was_run_has_its_own_rows() -> None:
    twins = runs(60, 1, 0.2)
    found = gains_by_twins(twins, twins, twins, AXES, ["round_robin", "netkv_static", "netkv_full"])
    assert found.groupby("reference", sort=False)["policy"].unique().map(list).to_dict() == {
        "netkv_static": ["netkv_full"],
        "netkv_full": ["netkv_static"],
    }


def test_a_place_that_only_one_side_has_has_no_row() -> None:
    twins = runs(60, 1, 0.2)
    assert gains_by_twins(twins, twins, twins.assign(time_scale_s=6.0), AXES, REFERENCES).empty


@pytest.fixture(scope="module")
def fluid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweeps") / "map"
    asked = ["sweep", "staleness_map", "--world", "analytic", "--seed", "1", "--set", "workload.requests=20", "--quiet"]
    done = CliRunner().invoke(app, [*asked, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


def test_long_runs_are_of_the_same_set_up_each_once(fluid: Path) -> None:
    seen = read_sweep(fluid)
    found = long_runs(fluid, seen, count=300, seeds=2)
    assert len(found) == 2 * seen["run"].nunique() == len({one.name for one in found})
    for one in found:
        short = one.name[: one.name.rindex("seed")] + "seed1"
        (labels,) = seen.loc[seen["run"] == short, ["policy", "time_scale_s", "world"]].drop_duplicates().to_numpy()
        assert (one.spec.policy, one.spec.congestion.period_s, one.labels["world"]) == (*labels[:2], "analytic")
        assert (one.spec.workload.requests, one.spec.seed) == (300, one.labels["seed"])
        assert one.spec.seed >= 1000
        assert spec_of(fluid / "runs" / short, read_manifest(fluid / "runs" / short)).emulation == one.spec.emulation


def test_a_questions_own_charts_are_drawn_of_what_is_told(fluid: Path) -> None:
    seen = read_sweep(fluid)
    question = QUESTIONS["staleness_map"]
    found = gains_by_twins(seen, seen, seen, AXES, REFERENCES).assign(
        told_percent=-30.0, told_low=-31.0, told_high=-29.0
    )
    told = with_told(question.results(seen), found, AXES, REFERENCES[0])
    assert len(told) == len(question.results(seen))
    (chart,) = question.charts(told)
    assert set(chart.rows["gain_percent"]) == {30.0}
    regimes = QUESTIONS["regimes"]
    other = regimes.results(seen.assign(regime="baseline", policy=seen["policy"].replace("netkv_static", "cla_star")))
    empty = found.iloc[:0].assign(regime="")
    assert regimes.charts(with_told(other, empty, ["regime"], "cla_star")) == []


def test_sweeps_of_different_set_ups_are_refused(fluid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told apart before anything runs; the fluid model's runs stand in for emulated ones."""
    monkeypatch.setattr("experiments.verbs.gains._emulated", read_sweep)
    other = tmp_path / "other"
    asked = ["sweep", "staleness_map", "--world", "analytic", "--seed", "2", "--set", "workload.requests=20", "--quiet"]
    done = CliRunner().invoke(app, [*asked, "--set", "serving.batch_slots=1", "--out", str(other)])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["gains", str(fluid), str(other), "--out", str(tmp_path / "gains")])
    assert isinstance(done.exception, StoreError)
    assert f"{other}: not of the same set-up as {fluid}" in str(done.exception)
    assert not (tmp_path / "gains").exists()


def test_a_sweep_that_is_not_emulated_is_refused_before_anything_runs(fluid: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["gains", str(fluid), "--out", str(tmp_path / "gains")])
    assert isinstance(done.exception, StoreError)
    assert f"{fluid}: holds no run of the emulated world" in str(done.exception)
    assert not (tmp_path / "gains").exists()
