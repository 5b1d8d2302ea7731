"""The paper's cells beside ours: what is run for which, what is judged and how, and what a fit leaves alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.analysis import Interval, counted
from experiments.cli import app
from experiments.comparing import twins_of
from experiments.drawing import BarChart, HeatMap, LineChart
from experiments.published import PublishedCell, published_cells, published_fit
from experiments.report import write_report
from experiments.reproducing import (
    PARAMETERS,
    PROFILES,
    TABLES,
    CellBeside,
    PaperCondition,
    answers,
    cells_beside,
    cells_by_twins,
    cells_frame,
    cells_of,
    declared_cells,
    fit_workload,
    paper_charts,
    planned_runs,
    short,
    taken_over_from_rag,
    totals,
)
from experiments.reproducing.cells_beside import run_key
from experiments.running import StoreError, read_spec, read_sweep
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("reproducing")
"""On one processor: its runs are made once."""

FULL_AT_200 = next(
    cell
    for cell in published_cells("Table 2")
    if (cell.policy, cell.quantity, cell.condition["load_percent"]) == ("paper_full", "mean_ttft", 200)
)
FULL_RUN = run_key(FULL_AT_200, FULL_AT_200.policy)
TINY = ("--set", "workload.requests=30", "--seed", "0")


def beside(ours: Interval, cell: PublishedCell = FULL_AT_200) -> CellBeside:
    return CellBeside(cell, "analytic", ours, 100)


@dataclass(frozen=True)
class Reproduction:
    """A small reproduction of all but Figure 1, as the command makes it."""

    folder: Path
    said: dict[str, Any]
    requests: pd.DataFrame
    cells: list[CellBeside]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    out = tmp_path_factory.mktemp("paper") / "all"
    cells = ",".join(short(table) for table in TABLES if table != "Figure 1")
    done = CliRunner().invoke(app, ["paper", "reproduce", "--cells", cells, *TINY, "--json", "--out", str(out)])
    assert done.exit_code == 0, done.output
    requests = read_sweep(out)
    return Reproduction(out, json.loads(done.stdout), requests, cells_beside(requests))


# What is run.


def test_at_the_papers_default_a_run_is_the_shipped_specification() -> None:
    (ours,) = [
        run.spec
        for run in planned_runs(PROFILES["full"], ("analytic",), ["Table 2"], {"seed": 0})
        if run.name == "analytic-rag-paper_full-refresh1s-seed0"
    ]
    shipped = read_spec(ROOT / "specs" / "paper.yaml", {})
    parts = ("fabric", "model", "slo", "serving", "congestion", "workload", "oracle")
    assert {part: getattr(ours, part) for part in parts} == {part: getattr(shipped, part) for part in parts}


@pytest.mark.parametrize(
    ("table", "name", "field", "value"),
    [
        ("Table 2", "rag-load_percent250", "workload.speedup", 2.5),
        ("Table 3", "rag-context_tokens1024", "workload.mean_input_tokens", 1024),
        ("Table 3", "rag-context_tokens1024", "workload.input_spread", 0.0),
        ("Table 4", "chatbot", "workload.profile", "chatbot"),
        ("Table 5", "rag-gpus1024", "fabric.pods", 32),
        ("Figure 1", "long_context-cross_pod_oversubscription8-background_percent40", "congestion.utilisation", 0.4),
        ("Figure 1", "rag-cross_pod_oversubscription1-background_percent0", "congestion.kind", "none"),
        ("Figure 3", "rag-sharing0.9", "workload.sharing", 0.9),
    ],
)
def test_a_condition_sets_what_it_names(table: str, name: str, field: str, value: object) -> None:
    made = [run for run in planned_runs(PROFILES["quick"], ("analytic",), [table]) if run.labels["condition"] == name]
    section, _, last = field.partition(".")
    assert made
    assert {getattr(getattr(run.spec, section), last) for run in made} == {value}


@pytest.mark.parametrize("ratio", [1.0, 2.0, 4.0, 8.0])
def test_cross_pod_oversubscription_divides_the_bandwidth_across_pods(ratio: float) -> None:
    name = "rag-background_percent5"
    name = name if ratio == 4 else f"rag-cross_pod_oversubscription{ratio:g}-background_percent5"
    runs = planned_runs(PROFILES["quick"], ("analytic",), ["Figure 1"])
    fabric = next(run.spec.scenario.fabric for run in runs if run.labels["condition"] == name)
    assert fabric.tier_rate_bps(3) == pytest.approx(1e11 / ratio)


def test_no_run_is_planned_twice_and_the_emulated_world_takes_a_part() -> None:
    for profile in PROFILES.values():
        runs = planned_runs(profile, ("analytic", "emulated"))
        names = [run.name for run in runs]
        assert len(set(names)) == len(names)
    emulated = {str(run.labels["condition"]) for run in planned_runs(PROFILES["full"], ("emulated",))}
    assert len(emulated) == 7  # the default, 200 % load, 128 GPUs, four corners
    assert {run.spec.policy for run in planned_runs(PROFILES["full"], ("emulated",), ["Figure 2"])} == {
        "cla_star", "paper_self_contention", "paper_full"
    }  # fmt: skip


# What is judged.


@pytest.mark.parametrize(
    ("value", "half", "verdict"),
    [
        (1710.0, 1.0, "inside"),
        (1700.0, 0.5, "outside"),  # the paper's own half width is 9 ms
        (1700.5, 1.0, "inside"),
        (1800.0, 50.0, "outside"),
        (1800.0, 200.0, "cannot_tell"),
        (1710.0, math.nan, "cannot_tell"),
    ],
)
def test_a_cell_is_judged_by_both_intervals(value: float, half: float, verdict: str) -> None:
    assert beside(Interval(value, value - half, value + half)).verdict == verdict


@pytest.mark.parametrize(("half", "verdict"), [(2.9, "inside"), (3.1, "cannot_tell")])
def test_a_change_has_to_be_known_within_three_percent(half: float, verdict: str) -> None:
    cell = next(cell for cell in published_cells("Figure 1") if cell.value < -5)
    assert beside(Interval(cell.value, cell.value - half, cell.value + half), cell).verdict == verdict


def test_what_was_read_off_a_plot_is_that_uncertain() -> None:
    panel = [cell for cell in published_cells("Figure 2") if cell.quantity == "p99_ttft"]
    apart = max(cell.value for cell in panel) - min(cell.value for cell in panel)  # ms, of an axis twice as long
    for part, verdict in ((0.019, "inside"), (0.021, "outside")):
        near = Interval.exactly(panel[0].value + part * apart)
        assert beside(near, panel[0]).verdict == verdict
        assert beside(near, replace(panel[0], read_off_plot=False)).verdict == "outside"


def test_only_round_robin_and_cla_star_at_full_load_are_fitted() -> None:
    fitted = [published_cells()[number] for number in published_fit()["cells"]]
    assert {cell.policy for cell in fitted} == {"round_robin", "cla_star"}
    assert {cell.condition.get("load_percent", 100) for cell in fitted} == {100}
    assert {cell.table for cell in fitted} == {"Table 2", "Table 4", "Table 6", "Figure 4"}


def test_the_same_number_in_another_table_is_fitted_too_and_never_counted() -> None:
    every = [CellBeside(cell, "analytic", Interval.exactly(cell.value), 9) for cell in published_cells()]
    fitted = {(one.cell.table, one.cell.policy) for one in every if one.fitted}
    assert ("Figure 2", "cla_star") in fitted  # it reads no telemetry: one run at every age
    assert not [policy for _, policy in fitted if policy.startswith("paper")]
    assert not [one for one in every if one.fitted and one.cell.condition.get("mode") == "packet"]
    assert totals(every)["fitted"] == sum(one.fitted for one in every) >= len(published_fit()["cells"])


def test_every_cell_has_its_place_but_those_whose_baseline_is_unknown(made: Reproduction) -> None:
    seen = {published_cells().index(one.cell) for one in made.cells}
    missing = [cell for number, cell in enumerate(published_cells()) if number not in seen]
    missing = [cell for cell in missing if cell.table != "Figure 1"]
    of_flow = [cell for cell in missing if cell.condition.get("mode") != "packet"]
    assert {(cell.table, cell.quantity, cell.against) for cell in of_flow} == {("Table 3", "mean_tbt_change", "")}
    told = made.said["cells"]
    assert [one["published"] for one in told] == [one.cell.value for one in made.cells]
    assert {"id", "published", "ours", "low", "high", "world", "fitted", "verdict"} <= told[0].keys()
    assert {one["verdict"] for one in told} <= {"inside", "outside", "cannot_tell"}
    assert len({one["id"] for one in told}) == len(told)
    assert "table2/rag/load_percent=200/paper_full/mean_ttft" in {one["id"] for one in told}


def test_ours_is_what_the_requests_say(made: Reproduction) -> None:
    rows = counted(made.requests)
    here = rows[rows["condition"] == "rag-load_percent200"]
    full, base = (here[here["policy"] == policy] for policy in ("paper_full", "cla_star"))
    found = {
        (one.cell.quantity, one.cell.policy): one.ours.value
        for one in made.cells
        if one.cell.table == "Table 2" and one.cell.condition["load_percent"] == 200
    }
    assert found["mean_ttft", "paper_full"] == pytest.approx(full["ttft_ms"].mean())
    assert found["mean_tbt", "cla_star"] == pytest.approx(base["tpot_ms"].mean())
    assert found["slo_attainment", "cla_star"] == pytest.approx(base["slo_met"].mean())
    at_16k = rows[rows["condition"] == "rag-context_tokens16384"]
    means = at_16k.groupby("policy")["ttft_ms"].mean()
    (change,) = [
        one.ours.value
        for one in made.cells
        if one.cell.condition == {"context_tokens": 16384}
        and (one.cell.quantity, one.cell.against) == ("mean_ttft_change", "round_robin")
    ]
    assert change == pytest.approx(100 * (means["paper_full"] / means["round_robin"] - 1))
    default = rows[(rows["condition"] == "rag") & (rows["policy"] == "cla_star") & (rows["kv_bytes"] > 0)]
    (share,) = [
        one.ours.value
        for one in made.cells
        if one.cell.table == "Table 6" and (one.cell.policy, one.cell.condition.get("tier")) == ("cla_star", 2)
    ]
    assert share == pytest.approx(100 * (default["tier"] == 2).mean())


# What is said and drawn.


def test_the_sentences_answer_what_was_asked(made: Reproduction) -> None:
    found = answers(made.cells, made.requests)
    said = " ".join(found)
    count = totals(made.cells)
    assert f"{count['inside']} come out and {count['outside']} do not" in said
    for asked in ("on 64 GPUs", "what telemetry adds to self-contention, rag", "P99 TTFT varies by", "peaks at",
                  "from 128 to 1024 GPUs"):  # fmt: skip
        assert asked.lower() in said.lower()
    assert "nan" not in said
    assert made.said["conclusions"] == found


def test_every_table_and_figure_is_drawn_with_the_papers_points(made: Reproduction) -> None:
    frame = cells_frame(made.cells)
    charts = {chart.name: chart for chart in paper_charts(frame)}
    drawn = {path.stem for path in made.folder.glob("*.svg")}
    assert drawn == set(charts) == {"table2", "table3", "table4", "table5_flow", "figure2", "figure3", "figure5_flow"}
    known = [beside(Interval.exactly(cell.value), cell) for cell in published_cells("Figure 1")]
    (charts["figure1"],) = paper_charts(cells_frame(known))
    (load, topology, ablation) = (charts[name] for name in ("table2", "figure1", "table4"))
    assert isinstance(load, LineChart)
    assert isinstance(topology, HeatMap)
    assert isinstance(ablation, BarChart)
    (line,) = [line for line in load.lines("analytic", load.quantities[0]) if line.policy == "paper_full"]
    assert line.published == [1598, 1710, 1793]
    cells = list(topology.cells("analytic", "rag"))
    assert sorted(cell.published or 0.0 for cell in cells)[-1] == 15.9
    assert {bar.policy: bar.published for bar in ablation.bars("analytic", "rag")}["paper_static"] == 1627


def test_the_report_shows_the_cells_and_the_papers_points(made: Reproduction, tmp_path: Path) -> None:
    said = write_report(made.folder, tmp_path / "report.html")
    assert [key for key in said["figures"] if key.startswith("paper-0-")][:2] == [
        "paper-0-analytic",
        "paper-0-table2-analytic",
    ]
    page = (tmp_path / "report.html").read_text()
    assert "The paper&#39;s cells" in page or "The paper’s cells" in page or "The paper's cells" in page
    assert "the paper: " in page


def test_the_command_ends_with_totals_and_lists_few_cells(tmp_path: Path) -> None:
    out = tmp_path / "one"
    arguments = ["paper", "reproduce", "--cells", "table6,Table2", *TINY, "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert "Table 6 analytic" in shown
    assert "transfers of tier" not in shown  # 46 cells are too many to list
    written = pd.read_csv(out / "paper.csv")
    assert set(written["table"]) == {"Table 2", "Table 6"}
    again = CliRunner().invoke(app, [*arguments, "--resume"])
    assert again.exit_code == 0, again.output
    assert "12 of 12 runs are there already" in " ".join(again.output.split()) or "are there already" in again.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("reproduce", "--cells", "table1"), "cells: 'table1' is not one of table2, table3"),
        (("reproduce", "--world", "real"), "world: 'real' is not one of"),
        (("reproduce", "--profile", "huge"), "profile: 'huge' is not one of quick, full"),
        (("reproduce", "--world", "emulated", "--cells", "table3"), "cells: the emulated world runs none of these"),
        (("reproduce", "--only", "gpus3"), "only: no run's name holds 'gpus3'; the first of "),
        (("fit", "--workloads", "poetry"), "--workloads: 'poetry' is not one of rag, chatbot, long_context"),
    ],
)
def test_what_cannot_be_reproduced_is_refused_with_the_remedy(arguments: tuple[str, ...], complaint: str) -> None:
    done = CliRunner().invoke(app, ["paper", *arguments])
    assert complaint in str(done.exception)


# What is fitted.


def test_a_fit_comes_nearer_to_its_cells_within_its_bounds() -> None:
    given = taken_over_from_rag(published_fit()["workloads"]["rag"]["values"])
    found = fit_workload("chatbot", given, requests=60, seeds=1)
    for parameter in PARAMETERS["chatbot"]:
        assert parameter.low <= found["values"][parameter.name] <= parameter.high
    off = {
        which: np.array([(cell[which] - cell["published"]) / cell["published"] for cell in found["cells"]])
        for which in ("start", "fitted")
    }
    assert np.abs(off["fitted"]).sum() < np.abs(off["start"]).sum()
    assert [cell["number"] for cell in found["cells"]] == declared_cells("chatbot")
    assert found["directions"][0]["strength"] == 1.0
    (attained,) = [cell for cell in found["cells"] if cell["quantity"] == "slo_attainment"]
    assert attained["fitted"] == pytest.approx(attained["published"], abs=0.02)
    offered = found["values"]["workload.rate_rps"] * found["values"]["workload.mean_input_tokens"]
    assert offered == pytest.approx(given["rag_tokens_per_s"], rel=0.01)


def test_what_is_shipped_is_a_fit_to_the_declared_cells() -> None:
    shipped = published_fit()
    workloads = shipped["workloads"]
    assert sorted(shipped["cells"]) == sorted(number for name in workloads for number in declared_cells(name))
    for name, fit in workloads.items():
        assert set(fit["errors"]) == {parameter.name for parameter in PARAMETERS[name]}
        for parameter in PARAMETERS[name]:
            assert parameter.low <= fit["values"][parameter.name] <= parameter.high
    assert shipped["made_with"].startswith("netkv paper fit ")


def test_tables_are_named_as_the_paper_names_them() -> None:
    assert [*TABLES] == [*(f"Table {n}" for n in range(2, 7)), *(f"Figure {n}" for n in range(1, 6))]
    assert len(cells_of()) == len(published_cells())
    assert PaperCondition().name == "rag"


# Packets, by way of the fluid model.


def as_packets(requests: pd.DataFrame, slower: float) -> pd.DataFrame:
    """As if packets took so much longer for every request."""
    return requests.assign(world="emulated", ttft_ms=slower * requests["ttft_ms"])


def told(cells: list[CellBeside]) -> dict[str, Interval]:
    return {one.id: one.ours for one in cells}


def test_a_twin_is_the_fluid_models_run_of_the_same_specification(made: Reproduction) -> None:
    some = made.requests[made.requests["condition"] == "rag"]
    twins = twins_of(made.folder, some)
    assert list(twins.columns) == list(some.columns)
    columns = ["run", "seed", "request_id", "policy", "ttft_ms", "kv_transfer_ms", "tier", "slo_met", "condition"]
    pd.testing.assert_frame_equal(twins[columns], some[columns].reset_index(drop=True))


def test_what_packets_change_of_all_requests_alike_is_told_of_the_long_runs(made: Reproduction) -> None:
    of_fluid = {one.id: one.ours for one in made.cells if one.cell.quantity in ("mean_ttft", "mean_ttft_change")}
    found = told(cells_by_twins(as_packets(made.requests, 1.25), made.requests, made.requests))
    ttft = [name for name in found if name in of_fluid and "mean_ttft_change" not in name]
    assert len(ttft) >= 5
    for name in ttft:
        ours, fluid = found[name], of_fluid[name]
        assert ours.value == pytest.approx(1.25 * fluid.value)
        assert ours.high - ours.low == pytest.approx(1.25 * (fluid.high - fluid.low), nan_ok=True)
    changes = [name for name in found if name in of_fluid and "mean_ttft_change" in name]
    assert changes
    for name in changes:
        assert found[name].value == pytest.approx(of_fluid[name].value, abs=1e-9)


def test_few_requests_tell_as_much_of_the_mean_as_packets_differ_from_the_fluid_model() -> None:
    """A heavy tail that both worlds share cancels; what differs from request to request is left."""
    rng = np.random.default_rng(5)

    def runs(requests: int, seeds: int, world: str) -> pd.DataFrame:
        size = np.concatenate([np.random.default_rng(seed).lognormal(6, 1.5, requests) for seed in range(seeds)])
        names = {"world": world, "condition": FULL_RUN[0], "refresh_s": FULL_RUN[1], "policy": FULL_RUN[2]}
        return pd.DataFrame(
            {
                **names, "seed": np.repeat(range(seeds), requests), "request_id": np.tile(range(requests), seeds),
                "run": np.repeat([f"{world}{seed}" for seed in range(seeds)], requests), "status": "completed",
                "verdict": "valid", "tier": 3, "kv_bytes": 1, "output_length": 5, "tpot_ms": 12.0, "slo_met": True,
                "kv_transfer_ms": size, "ttft_ms": size, "decision_us": 1.0, "workload": "rag",
            }
        )  # fmt: skip

    short = runs(100, 4, "analytic")
    packets = short.assign(world="emulated", ttft_ms=short["ttft_ms"] * rng.normal(1.05, 0.05, len(short)))
    (by_itself,) = (one for one in cells_beside(packets) if one.cell == FULL_AT_200)
    (by_twins,) = (
        one for one in cells_by_twins(packets, short, runs(40_000, 4, "analytic")) if one.cell == FULL_AT_200
    )
    truth = 1.05 * np.exp(6 + 1.5**2 / 2)
    assert by_twins.ours.low < truth < by_twins.ours.high
    assert by_twins.ours.high - by_twins.ours.low < (by_itself.ours.high - by_itself.ours.low) / 3


def test_the_command_refuses_the_wrong_world(made: Reproduction) -> None:
    done = CliRunner().invoke(app, ["paper", "packets", str(made.folder), str(made.folder)])
    assert isinstance(done.exception, StoreError)
    assert "has runs of the analytic world; those of the emulated one are wanted" in str(done.exception)


def test_a_table_that_is_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("mine")
    done = CliRunner().invoke(app, ["paper", "packets", "E", "A", "--out", str(tmp_path / "cells.csv")])
    assert isinstance(done.exception, StoreError)
    assert f"{tmp_path}/cells.csv: is there already" in str(done.exception)
    assert (tmp_path / "cells.csv").read_text() == "mine"
