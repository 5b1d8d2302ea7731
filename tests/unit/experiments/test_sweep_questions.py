"""Every question asked for real, of a few requests in the analytic world: results, figures, words, and continuing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from experiments.analysis.results import gains
from experiments.cli import app
from experiments.drawing import style_of
from experiments.questions import QUESTIONS, Question, SweepProfile
from experiments.running.sweep import read_sweep, run_sweep

pytestmark = pytest.mark.xdist_group("questions")

COLUMNS = {
    "world", "workload", "policy", "refresh_s", "seeds", "requests", "completed", "ttft_ms", "ttft_low_ms",
    "ttft_high_ms", "p99_ttft_ms", "tpot_ms", "tpot_low_ms", "tpot_high_ms", "slo_attainment", "slo_low", "slo_high",
    "kv_transfer_ms", "decision_us", "reference", "ttft_change_percent", "ttft_change_low", "ttft_change_high",
    "ttft_change_p", "ttft_change_p_holm", "ttft_change_detectable", "ttft_change_seeds", "left_out",
}  # fmt: skip
CHANGES = {"workload.requests": 12, "workload.max_output_tokens": 4, "workload.max_input_tokens": 8192}
TINY = {
    "staleness": SweepProfile((0,), CHANGES, axes={"congestion": ("onoff",)}, refresh_s=(0.1, 5.0)),
    "staleness_map": SweepProfile((0,), CHANGES, axes={"time_scale_s": (1.0, 5.0)}, refresh_s=(0.1, "never")),
    "topology": SweepProfile(
        (0, 1), CHANGES, axes={"tor_oversubscription": (1.0, 4.0), "aggregation_oversubscription": (4.0,)},
        workloads=("rag", "chatbot"),
    ),
    "prefix": SweepProfile((0,), CHANGES, axes={"sharing": (0.0, 1.0)}, workloads=("rag",)),
    "ablation": SweepProfile((0, 1), CHANGES, workloads=("rag", "long_context")),
    "scale": SweepProfile((0,), CHANGES, axes={"gpus": (64, 128)}),
    "regimes": SweepProfile((0, 1), CHANGES, axes={"regime": ("baseline", "shuffle")}),
    "faults": SweepProfile((0,), CHANGES, axes={"faults": ("none", "link_down", "link_stale")}),
    "hard_cases": SweepProfile((0, 1), CHANGES, axes={"case": ("easy", "lost", "link_unseen")}),
}  # fmt: skip
FIGURES = {
    "staleness": ["staleness", "prediction_error"],
    "staleness_map": ["staleness_map"],
    "topology": ["topology"],
    "prefix": ["prefix"],
    "ablation": ["ablation"],
    "scale": ["scale"],
    "regimes": ["regimes", "regimes-public"],
    "faults": ["faults", "faults-slo"],
    "hard_cases": ["hard_cases", "hard_cases-topology"],
}

each = pytest.mark.parametrize("name", list(QUESTIONS))


@dataclass(frozen=True)
class Asked:
    """A sweep that was run: its folder, its requests and its results."""

    folder: Path
    seen: pd.DataFrame
    results: pd.DataFrame


Ask = Callable[[str], Asked]


def tiny(name: str) -> Question:
    return replace(QUESTIONS[name], profiles={"tiny": TINY[name]})


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """The sweep of a tiny question, run once."""
    made: dict[str, Asked] = {}

    def sweep_of(name: str) -> Asked:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "sweep"
            run(tiny(name), folder)
            seen = read_sweep(folder)
            made[name] = Asked(folder, seen, QUESTIONS[name].results(seen))
        return made[name]

    return sweep_of


def run(question: Question, out: Path, *, resume: bool = False) -> None:
    conditions = question.conditions("tiny", question.policies, ("analytic",), {})
    run_sweep(question.name, conditions, out, resume=resume, console=Console(file=StringIO()))


# Results


@each
def test_results_are_a_row_a_condition_with_every_column(ask: Ask, name: str) -> None:
    seen, results = ask(name).seen, ask(name).results
    axes = [axis.label for axis in QUESTIONS[name].axes]
    assert set(results) >= COLUMNS | set(axes)
    keys = ["world", "workload", *axes, "policy", "refresh_s"]
    assert len(results) == len(results[keys].drop_duplicates()) == len(seen[keys].drop_duplicates())
    assert (results["requests"] == results["completed"]).all()
    assert results[["ttft_ms", "tpot_ms", "kv_transfer_ms", "decision_us", "slo_attainment"]].notna().all(axis=None)
    assert (results["decision_us"] > 0).all()
    assert (results["ttft_low_ms"] <= results["ttft_ms"] + 1e-9).all()
    assert results["tpot_low_ms"].isna().equals(results["seeds"] < 2)  # a mean TBT's interval rests on whole runs
    assert json.loads((ask(name).folder / "sweep.json").read_text())["question"] == name


@each
def test_changes_against_the_reference_are_those_of_the_same_requests(ask: Ask, name: str) -> None:
    seen, question = ask(name).seen, QUESTIONS[name]
    axes = ["world", "workload", *(axis.label for axis in question.axes)]
    for row in ask(name).results.to_dict("records"):
        inside = seen
        for axis in axes:
            inside = inside[inside[axis] == row[axis]]
        inside = inside[inside["request_id"] >= (inside.groupby("run")["request_id"].transform("size") * 0.1) // 1]
        own = inside[inside["policy"] == row["policy"]]
        if not math.isnan(row["refresh_s"]):
            own = own[own["refresh_s"] == ("never" if math.isinf(row["refresh_s"]) else row["refresh_s"])]
        for position, reference in enumerate(question.references):
            before = inside.loc[inside["policy"] == reference, "ttft_ms"].mean()
            column = "ttft_change" if position == 0 else f"ttft_change_{reference}"
            assert row[f"{column}_percent"] == pytest.approx(100 * (own["ttft_ms"].mean() / before - 1), abs=1e-9)
        assert row["reference"] == question.references[0]


def test_a_cell_of_the_heat_map_is_what_full_saves_over_cla_star(ask: Ask) -> None:
    seen = ask("topology").seen
    cells = gains(ask("topology").results, "netkv_full")
    assert len(cells) == 2 * 2
    cell = cells[(cells["workload"] == "rag") & (cells["tor_oversubscription"] == 4.0)].iloc[0]
    inside = seen[(seen["workload"] == "rag") & (seen["tor_oversubscription"] == 4.0) & (seen["request_id"] >= 1)]
    means = inside.groupby("policy")["ttft_ms"].mean()
    assert cell["gain_percent"] == pytest.approx(100 * (1 - means["netkv_full"] / means["cla_star"]))
    assert cell["gain_low"] <= cell["gain_percent"] <= cell["gain_high"]


def test_p_values_are_corrected_for_the_comparisons_of_their_world(ask: Ask) -> None:
    results = ask("ablation").results
    compared = results[results["policy"] != "cla_star"]
    assert results.loc[results["policy"] == "cla_star", "ttft_change_p"].isna().all()
    assert len(compared) == 8
    smallest = compared["ttft_change_p"].idxmin()
    corrected = min(8 * compared.loc[smallest, "ttft_change_p"], 1.0)
    assert compared.loc[smallest, "ttft_change_p_holm"] == pytest.approx(corrected)


def test_invalid_runs_are_left_out_of_every_row(ask: Ask) -> None:
    seen = ask("scale").seen.copy()
    seen.loc[seen["gpus"] == 128, "verdict"] = "invalid"
    assert set(QUESTIONS["scale"].results(seen)["gpus"]) == {64}


# What a person reads


def drawn(question: Question, asked: Asked, place: Path) -> dict[str, bytes]:
    """Every file of a question's figures."""
    place.mkdir()
    written = question.draw(asked.results, place, "a note") + question.draw_requests(asked.seen, place, "a note")
    return {path.name: path.read_bytes() for path in written}


@each
def test_figures_are_there_in_both_formats_and_each_kind_is_the_same_bytes_twice(
    ask: Ask, name: str, tmp_path: Path
) -> None:
    found = drawn(QUESTIONS[name], ask(name), tmp_path / "one")
    assert list(found) == [f"{figure}.{kind}" for figure in FIGURES[name] for kind in ("png", "svg")]
    assert all(content.startswith(b"\x89PNG") for path, content in found.items() if path.endswith("png"))
    if name in ("prefix", "topology", "ablation"):  # lines, a heat map, bars: every kind of chart that there is
        assert drawn(QUESTIONS[name], ask(name), tmp_path / "two") == found


def test_a_policy_that_is_no_step_of_the_ablation_is_held_against_netkv_static(ask: Ask) -> None:
    results = ask("ablation").results
    other = results[results["policy"] == "netkv_full"].assign(policy="theirs:Router")
    said = QUESTIONS["ablation"].sentences(pd.concat([results, other]))
    beside = [line for line in said if "beside netkv_static: theirs:Router" in line]
    assert len(beside) == len(results.groupby(["world", "workload"]))
    assert not any("beside netkv_static" in line for line in QUESTIONS["ablation"].sentences(results))


@pytest.mark.parametrize("name", ["topology", "ablation"])
def test_a_panel_that_one_world_did_not_run_says_so(ask: Ask, name: str, tmp_path: Path) -> None:
    analytic = ask(name).results
    emulated = analytic[analytic["workload"] == "rag"].assign(world="emulated")
    written = QUESTIONS[name].draw(pd.concat([emulated, analytic]), tmp_path, "")
    svg = next(path for path in written if path.suffix == ".svg").read_text()
    assert svg.count("<!-- not run -->") == 1
    assert "rag, emulated" in svg


@each
def test_table_and_sentences_name_what_was_compared(ask: Ask, name: str) -> None:
    question = QUESTIONS[name]
    results = ask(name).results
    console = Console(file=StringIO(), width=80)
    console.print(question.table(results))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "netkv_full" in shown
    assert "smallest change detectable (80 % power): " in " ".join(shown.split())
    assert "…" not in shown
    said = question.sentences(results)
    assert any("netkv_full" in sentence for sentence in said)
    assert not any("nan" in sentence for sentence in said)


@each
def test_a_router_of_the_public_has_its_place_in_table_figure_and_words(ask: Ask, name: str, tmp_path: Path) -> None:
    seen, question = ask(name).seen, QUESTIONS[name]
    added = "paper_full" if "aibrix_decode" in question.policies else "aibrix_decode"
    other = seen[seen["policy"] == "netkv_full"]
    other = other.assign(policy=added, run=other["run"] + "-added")
    results = question.results(pd.concat([seen, other]))
    written = question.draw(results, tmp_path, "")
    assert any(style_of(added).label in path.name + path.read_text() for path in written if path.suffix == ".svg")
    rows = results[results["policy"] == added]
    assert len(rows) == len(results[results["policy"] == "netkv_full"])


# Continuing, and the command line


@each
def test_a_sweep_that_lost_a_run_is_completed_and_says_the_same(ask: Ask, name: str, tmp_path: Path) -> None:
    whole, out = ask(name).folder, tmp_path / "sweep"
    shutil.copytree(whole, out)
    lost = sorted((out / "runs").iterdir())[::4]
    for folder in lost:
        shutil.rmtree(folder)
    run(tiny(name), out, resume=True)
    tables = [read_sweep(place).drop(columns="decision_us") for place in (whole, out)]  # the wall clock never repeats
    pd.testing.assert_frame_equal(*tables)


def test_a_sweep_from_the_command_line_ends_with_csv_figures_and_conclusions(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    arguments = ["sweep", "ablation", "--world", "analytic", "--requests", "6", "--seed", "4", "--json"]
    arguments += ["--set", "workload.profile=rag", "--set", "workload.max_output_tokens=4", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert {path.name for path in out.iterdir()} >= {
        "ablation.csv", "ablation.png", "ablation.svg", "conclusions.txt", "runs", "sweep.json"
    }  # fmt: skip
    assert said["results"][-1]["ttft_change_detectable"] > 0
    assert [row["policy"] for row in said["results"]] == list(QUESTIONS["ablation"].policies)
    assert said["conclusions"] == (out / "conclusions.txt").read_text().splitlines()
    written = pd.read_csv(out / "ablation.csv")
    assert written["ttft_ms"].tolist() == pytest.approx([row["ttft_ms"] for row in said["results"]])


def test_the_help_explains_every_question() -> None:
    shown = " ".join(CliRunner().invoke(app, ["sweep", "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert all(f"{question.name} {question.asks}" in shown for question in QUESTIONS.values())
