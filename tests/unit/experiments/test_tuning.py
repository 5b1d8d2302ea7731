"""`netkv tune`: the grid, the slice that evaluation never sees, the winner, and the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from experiments.cli import app
from experiments.planning.tuning import Slice, grid_points, ranking, tuning_slice
from experiments.running.errors import SpecError
from experiments.running.run_spec import make_spec

LINE = '{{"timestamp": {at}, "input_length": 600, "output_length": 5, "hash_ids": [0, {at}]}}\n'


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Thirty requests."""
    place = tmp_path / "trace.jsonl"
    place.write_text("".join(LINE.format(at=1000 * k) for k in range(30)))
    return place


def test_of_weights_on_one_ray_only_the_first_is_tried() -> None:
    points = grid_points("cla_star", {"prefix": (0.0, 1.0, 2.0), "queue": (0.0, 1.0, 2.0)})
    assert [tuple(point.values()) for point in points] == [(0, 1), (1, 0), (1, 1), (1, 2), (2, 1)]
    assert len(grid_points("dynamo_qos", {"weight": (0.0, 1.0, 2.0)})) == 3


@pytest.mark.parametrize(
    ("policy", "grid", "complaint"),
    [
        ("cla_star", {"prefx": (1.0,)}, "--grid prefx: cla_star has no such parameter (prefix, queue, memory)"),
        ("round_robin", {"weight": (1.0,)}, "--grid weight: round_robin has no such parameter (it has none)"),
        ("netkv_full", {}, "tune: netkv_full has no grid of its own: give one with --grid"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(policy: str, grid: dict[str, tuple[float, ...]], complaint: str) -> None:
    with pytest.raises(SpecError) as caught:
        grid_points(policy, grid)
    assert str(caught.value).startswith(complaint)


def test_the_slice_is_beside_the_evaluation(trace: Path) -> None:
    def part(first: int, count: int, wanted: int | None = None) -> Slice:
        workload = {"trace": str(trace), "first_request": first, "requests": count}
        return tuning_slice(make_spec({"workload": workload}, {}), wanted, 1)

    assert (part(0, 10).first, part(0, 10).count) == (10, 10)
    assert part(10, 10).first == 20
    assert part(20, 10).first == 10  # nothing left after it
    assert part(25, 5, 20).first == 5
    with pytest.raises(SpecError, match=r"has no 16 requests beside the 16 of the evaluation, from number 7 on"):
        part(7, 16)


def test_the_winner_is_the_best_mean_of_those_that_lose_nothing() -> None:
    rows = [(0, 1.0, 5.0, 0), (1, 1.0, 9.0, 0), (0, 2.0, 6.0, 0), (1, 2.0, 7.0, 0), (0, 3.0, 1.0, 1), (1, 3.0, 1.0, 0)]
    grid = pd.DataFrame(rows, columns=["seed", "w", "mean_ttft_ms", "rejected"]).assign(failed=0)
    ranked = ranking(grid, ["w"], "mean_ttft_ms")
    assert ranked["w"].tolist() == [2, 1, 3]
    assert ranked["score"].tolist() == [6.5, 7, 1]


def test_the_folder_holds_grid_winner_and_slice_and_its_specification_runs(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    arguments = ["tune", "--trace", str(trace), "--requests", "10", "--seeds", "2", "--out", str(out)]
    done = CliRunner().invoke(app, [*arguments, "--grid", "prefix=1,2", "--grid", "queue=0,1", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads((out / "tune.json").read_text())
    assert report["slice"]["first_request"] == 10
    assert report["evaluation"] == {"first_request": 0, "requests": 10, "seed": 0}
    assert report["grid"] == {"prefix": [1, 2], "queue": [0, 1]}
    assert report["winner"] in [{name: row[name] for name in ("prefix", "queue")} for row in report["ranking"]]
    assert json.loads(done.stdout)["winner"] == report["winner"]
    grid = pd.read_parquet(out / "grid.parquet")
    assert len(grid) == 2 * report["points"] == 2 * 3  # (1, 0), (1, 1), (2, 1); (2, 0) is (1, 0)
    assert (grid["completed"] == 10).all()
    assert report["evaluation"]["seed"] not in set(grid["seed"])
    tuned = yaml.safe_load((out / "tuned.yaml").read_text())
    assert tuned["policy_parameters"]["cla_star"] == report["winner"]
    run = ["run", str(out / "tuned.yaml"), "--world", "analytic", "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, run).exit_code == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["spec"]["policy_parameters"]["cla_star"] == report["winner"]
