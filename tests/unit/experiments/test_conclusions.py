"""From results to sentences, the map, and prediction error by age: on made results, by hand."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from experiments.analysis.results import gains
from experiments.analysis.wording import refresh_name
from experiments.questions import QUESTIONS, prediction_error
from experiments.questions.prediction_error import age_bins
from experiments.questions.staleness_wording import sentences, swept
from experiments.report.answer import three_sentences

STALENESS, MAP = QUESTIONS["staleness"], QUESTIONS["staleness_map"]


def made(refresh_s: float, change: float = 0.0, half: float = 1.0, **fields: Any) -> dict[str, Any]:
    """A row of results whose mean TTFT changed by `change` +/- `half` percent since the freshest view."""
    row = {
        "world": "emulated", "workload": "rag", "congestion": "onoff", "policy": "netkv_full", "refresh_s": refresh_s,
        "seeds": 5, "snapshots": 20, "correlation_s": 2.5, "requests": 675, "left_out": 0,
        "ttft_change_netkv_static_detectable": 1.4,
        "ttft_change_netkv_static_p": 0.001 if abs(change - 2) > half else 0.5,
        "aged_change_percent": change, "aged_change_low": change - half, "aged_change_high": change + half,
        "ttft_change_percent": -20.0 + change, "ttft_change_low": -24.0 + change, "ttft_change_high": -16.0 + change,
        "aged_kv_percent": 2 * change, "aged_kv_low": 2 * change - half, "aged_kv_high": 2 * change + half,
        "ttft_change_netkv_static_percent": change - 2, "ttft_change_netkv_static_low": change - 2 - half,
        "ttft_change_netkv_static_high": change - 2 + half, "same_tier": 0.95, "tpot_ms": 30.0, "slo_attainment": 0.9,
        "telemetry_gain_ms": 20.0, "telemetry_gain_low": 10.0, "telemetry_gain_high": 30.0,
        "retained_percent": 90.0, "retained_low": 70.0, "retained_high": 110.0,
    }  # fmt: skip
    return {**row, **fields}


def said(*rows: dict[str, Any]) -> str:
    return "\n".join(sentences(pd.DataFrame(rows)))


def test_small_changes_with_narrow_intervals_are_invariance() -> None:
    text = said(made(0.1), made(60.0, 2.0), made(5.0, -1.0))
    assert (
        "mean TTFT is invariant from 0.1 s to 60 s within +/-5 %; worst +2.0 % [+1.0, +3.0] at 60 s (5 seeds)" in text
    )


def test_a_change_beyond_the_margin_is_none_and_says_since_when() -> None:
    text = said(made(0.1), made(5.0, 3.0), made(30.0, 8.0), made(math.inf, 15.0))
    assert "NOT invariant from 0.1 s to never: it leaves +/-5 % at 30 s; worst +15.0 % [+14.0, +16.0] at never" in text


def test_a_wide_interval_decides_nothing() -> None:
    assert "cannot be decided: an interval reaches beyond" in said(made(0.1), made(60.0, 4.0, half=3.0))
    assert "beyond +/-5 %, -1.0 % [-9.0, +7.0] at 5 s" in said(made(0.1), made(5.0, -1.0, half=8.0), made(60.0, 2.0))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"same_tier": 0.92}, "consistent with C3: at least 92% of the requests keep their tier (fewest at 60 s)"),
        ({"same_tier": 0.6}, "C3 does not carry over to whole runs: only 60% of the requests keep their tier at 60 s"),
        ({"tpot_ms": 30.4}, "TBT stays within 0.5 ms (spread 0.40 ms)"),
        ({"tpot_ms": 31.0}, "TBT moves beyond 0.5 ms (spread 1.00 ms)"),
        ({"slo_attainment": 0.8}, "SLO attainment beyond 5 points (spread 10.0)"),
        ({"ttft_change_high": 2.0}, "no significant gain is left"),
        ({}, "-20.0 % at 0.1 s, -18.0 % [-22.0, -14.0] at 60 s: a significant gain is kept"),
    ],
)
def test_each_finding_follows_its_number(fields: dict[str, Any], text: str) -> None:
    assert text in said(made(0.1), made(60.0, 2.0, **fields))


def test_transfers_are_judged_apart_from_the_prefill_that_dilutes_them() -> None:
    text = said(made(0.1), made(5.0, -1.0), made(60.0, 4.0))
    assert "KV transfer alone changes by +8.0 % [+7.0, +9.0] at worst, at 60 s" in text


def test_transfers_are_held_to_a_margin_of_their_own() -> None:
    assert "at worst, at 60 s: within +/-5 %" in said(made(0.1), made(60.0, 1.0))
    assert "at worst, at 60 s: NOT within +/-5 %" in said(made(0.1), made(60.0, 4.0))
    assert "at worst, at 60 s: undecided whether within +/-5 %" in said(made(0.1), made(60.0, 2.3))


def test_what_is_kept_of_the_gain_of_telemetry_itself() -> None:
    gone = {"retained_percent": 20.0, "retained_low": -5.0, "retained_high": 45.0}
    text = said(made(0.1), made(5.0), made(60.0, **gone))
    worth, lost, sure = text.splitlines()[:3]
    assert "telemetry is worth something here: with a snapshot every 0.1 s (0.04 times the congestion's corr" in worth
    assert "reads none, by -2.0 % [-3.0, -1.0] (+20 ms saved [+10, +30])" in worth
    assert (
        "an old snapshot loses it, significantly more than 50 % at 60 s: of that gain it keeps 90 % [70, 110] at"
        in lost
    )
    assert "20 % [-5, 45] at 60 s (24 times the congestion's correlation time)" in lost
    assert "rests on 5 seeds and 675 requests a row, in which a change of 1.4 % would have been seen" in sure
    assert "an old snapshot keeps it, significantly at least 50 % at every age" in said(made(0.1), made(60.0))
    assert "no gain that could be seen for an old snapshot to lose" in said(
        made(0.1, telemetry_gain_low=-1.0), made(60.0, **gone)
    )
    costs = said(made(0.1, telemetry_gain_ms=-20.0, telemetry_gain_low=-30.0, telemetry_gain_high=-10.0), made(60.0))
    assert "telemetry costs something here" in costs
    assert "2 runs fewer than were made, invalid" in said(made(0.1, left_out=2), made(60.0))
    unknown = {"telemetry_gain_ms": math.nan}
    assert "without a seed that has valid runs of netkv_static and at every refresh interval nobody knows" in said(
        made(0.1, **unknown), made(60.0)
    )
    not_run = dict.fromkeys((f"ttft_change_netkv_static_{name}" for name in ("percent", "low", "high", "p")), math.nan)
    assert "without netkv_static in the sweep nobody knows what telemetry is worth here" in said(
        made(0.1, **unknown, **not_run), made(60.0, **not_run)
    )


def test_telemetry_is_worth_its_gain_over_none() -> None:
    text = said(made(0.1), made(5.0, 0.5), made(60.0, 4.0))
    assert "-2.0 % [-3.0, -1.0] at 0.1 s, at worst +2.0 % [+1.0, +3.0] at 60 s" in text
    assert (
        "a significant gain at a refresh interval of 0.1 s, 5 s, not at 60 s; an old telemetry snapshot can cost"
        in text
    )
    assert "telemetry brings no significant gain" in said(made(0.1, 2.0), made(60.0, 2.0))
    seldom = {"ttft_change_netkv_static_p": 0.02}
    assert "brings a significant gain" in said(made(0.1, **seldom), made(60.0, 2.0))
    thrice = said(made(0.1, **seldom), made(5.0, **seldom), made(60.0, **seldom))
    assert "telemetry brings no significant gain at any refresh interval" in thrice, "three chances at 5 % each"
    uneven = said(made(0.1, 2.0), made(5.0, -1.0), made(60.0, 4.0))
    assert "at a refresh interval of 5 s, not at 0.1 s, 60 s" in uneven


def test_worlds_and_workloads_are_judged_apart() -> None:
    text = said(made(0.1), made(60.0), made(0.1, world="analytic"), made(60.0, 9.0, world="analytic"))
    assert "netkv_full on rag in the emulated world: mean TTFT is invariant" in text
    assert "netkv_full on rag in the analytic world: mean TTFT is NOT invariant" in text


def test_without_round_robin_or_with_one_interval_less_is_said() -> None:
    assert "says nothing about staleness" in said(made(0.1, telemetry_gain_ms=math.nan))
    nan = {"ttft_change_percent": math.nan, "ttft_change_high": math.nan}
    assert "there is no gain to compare" in said(made(0.1, **nan), made(60.0, **nan))
    assert sentences(pd.DataFrame([made(math.nan)])) == []


def test_a_row_of_too_few_snapshots_is_refused() -> None:
    rows = (made(0.1), made(7.0, 1.0, snapshots=3), made(60.0, 30.0, snapshots=2), made(math.inf, 40.0, snapshots=1))
    text = said(*rows)
    assert "invariant from 0.1 s to 7 s" in text
    assert "nothing is said of a refresh interval of 60 s: the decisions of a run were based on 2 telemetry" in text
    assert "of never: the decisions of a run were based on 1 telemetry snapshot, and it takes 3" in text
    fresh, old, few = (requests(100, "netkv_full", at) for at in (0.1, 5.0, 20.0))
    results = STALENESS.results(pd.concat([fresh, old, few.assign(snapshots=2)]))
    (chart,) = STALENESS.charts(results)
    assert chart.rows["refresh_s"].tolist() == [0.1, 5.0]
    console = Console(file=StringIO(), width=80)
    console.print(STALENESS.table(results))
    table = console.file.getvalue()  # type: ignore[attr-defined]
    assert [line.split()[-1] for line in table.splitlines() if "netkv_full" in line] == ["-", "-", "few"], table
    assert "5 (2)" in table
    assert "correlation time of the congestion, 2.5 s" in " ".join(table.split())


def test_a_sweep_of_refused_rows_alone_says_so_and_draws_nothing() -> None:
    runs = [requests(80, "netkv_full", at).assign(snapshots=1) for at in (5.0, "never")]
    alone = STALENESS.results(pd.concat(runs))
    assert STALENESS.charts(alone) == []
    assert sum("nothing is said of a refresh interval" in text for text in STALENESS.sentences(alone)) == 2
    mapped = MAP.results(pd.concat([requests(100, "netkv_static", None), *runs]))
    assert MAP.charts(mapped) == []
    assert sum("nothing is said of a refresh interval" in text for text in MAP.sentences(mapped)) == 2
    Console(file=StringIO(), width=80).print(MAP.table(mapped))


def test_intervals_have_names() -> None:
    assert [refresh_name(value) for value in (0.1, 60.0, math.inf)] == ["0.1 s", "60 s", "never"]


# The full profile


def test_the_full_profile_asks_the_whole_question() -> None:
    runs = STALENESS.conditions("full", ("round_robin", "netkv_full"), ("analytic",), {})
    assert {run.labels["workload"] for run in runs} == {"conversation", "chatbot", "rag", "long_context"}
    assert {run.labels["refresh_s"] for run in runs} == {None, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0}
    assert len({run.labels["seed"] for run in runs}) >= 5
    assert all(run.spec.workload.requests / run.spec.workload.rate_rps > 180 for run in runs)
    assert len({run.name for run in runs}) == len(runs) == 4 * 5 * 8


def test_a_workload_of_the_users_own_is_the_only_one() -> None:
    runs = STALENESS.conditions("full", ("netkv_full",), ("analytic",), {"workload.profile": "rag", "seed": 1})
    assert [run.labels["workload"] for run in runs] == ["rag"] * 7
    assert runs[-1].name == "analytic-netkv_full-refresh60s-seed1"


def test_traffic_that_stays_is_judged_at_its_one_age_and_beside_the_one_that_moves() -> None:
    moving = [made(0.1, congestion="hotspot"), made(5.0, 9.0, congestion="hotspot")]
    stays = {"congestion": "constant", "correlation_s": math.inf, "aged_change_percent": 0.0}
    text = said(*moving, made(5.0, **stays, telemetry_gain_low=-10.0))
    assert (
        "netkv_full on rag in the emulated world, constant traffic: telemetry is worth nothing that could be seen"
        in text
    )
    assert "with a snapshot every 5 s the mean TTFT differs from netkv_static's by -2.0 % [-3.0, -1.0]" in text
    assert "where 1.4 % would have been seen" in text
    assert "hotspot traffic: mean TTFT is NOT invariant from 0.1 s to 5 s" in text
    assert "telemetry is worth something even so" in said(*moving, made(5.0, **stays))
    assert list(swept(pd.DataFrame([*moving, made(5.0, **stays)]))["congestion"]) == ["hotspot", "hotspot"]
    assert len(swept(pd.DataFrame([made(5.0, **stays)]))) == 1


def test_the_quick_sweep_is_eighteen_runs_a_control_and_two_of_constant_traffic() -> None:
    planned = STALENESS.conditions("quick", STALENESS.policies, ("emulated",), {})
    beside = [condition for condition in planned if condition.labels["congestion"] == "constant"]
    assert len(planned) == 18 + 1 + 2
    assert [condition.name for condition in beside] == [
        "emulated-constant-netkv_static-seed0",
        "emulated-constant-netkv_full-refresh5s-seed0",
    ]
    alone = STALENESS.conditions("quick", STALENESS.policies, ("emulated",), {"congestion.kind": "shuffle"})
    assert {condition.spec.congestion.kind for condition in alone} == {"shuffle"}
    assert STALENESS.conditions("quick", ("round_robin",), ("analytic",), {})[-1].spec.congestion.kind == "hotspot"


# The map and prediction errors


def requests(ttft_ms: float, policy: str, refresh_s: Any, scale_s: float = 5.0, count: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "world": "analytic", "workload": "conversation", "policy": policy, "refresh_s": refresh_s, "seed": 0,
            "congestion": "onoff",
            "time_scale_s": scale_s, "verdict": "valid", "status": "completed", "request_id": range(count),
            "ttft_ms": ttft_ms * rng.uniform(0.95, 1.05, count), "tpot_ms": 30.0, "slo_met": True, "tier": 1,
            "kv_bytes": 10, "kv_transfer_ms": 100.0, "predicted_kv_transfer_ms": np.linspace(100, 200, count),
            "oracle_age_ms": np.linspace(100, 8000, count), "decision_us": 20.0,
            "run": f"{policy}-{refresh_s}-{scale_s}", "snapshots": 10, "correlation_s": 2.5,
        }
    )  # fmt: skip


@pytest.fixture
def mapped() -> pd.DataFrame:
    runs = [requests(100, "netkv_static", None), requests(80, "netkv_full", 0.1), requests(110, "netkv_full", "never")]
    return MAP.results(pd.concat(runs))


def test_a_cell_is_what_full_saves_over_static(mapped: pd.DataFrame) -> None:
    cells = gains(mapped, "netkv_full")
    assert cells["refresh_s"].tolist() == [0.1, math.inf]
    assert cells["gain_percent"].tolist() == pytest.approx([20, -10])
    assert ((cells["gain_low"] <= cells["gain_percent"]) & (cells["gain_percent"] <= cells["gain_high"])).all()


def test_the_map_in_words_and_as_a_table(mapped: pd.DataFrame) -> None:
    (text,) = MAP.sentences(mapped)
    assert "congestion of 5 s: the freshest snapshot gains +20.0 %" in text
    assert "the gain is significant at a refresh interval of 0.1 s; at never the old snapshot costs more" in text
    console = Console(file=StringIO(), width=80)
    console.print(MAP.table(mapped))
    assert "smallest change detectable (80 % power)" in " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "+20.0" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(MAP.profiles))
def test_every_map_has_its_reference_beside_every_row(name: str) -> None:
    profile = MAP.profiles[name]
    runs = MAP.conditions(name, MAP.policies, ("analytic",), {})
    rows = len(profile.axes["time_scale_s"]) * len(profile.seeds)
    assert len({run.name for run in runs}) == len(runs) == rows * (len(profile.refresh_s) + 1)
    assert {run.labels["time_scale_s"] for run in runs} == set(profile.axes["time_scale_s"])
    taus_s = {run.spec.congestion.correlation_s for run in runs}
    assert taus_s == {scale_s / 2 for scale_s in profile.axes["time_scale_s"]}  # of a hot spot as of on and off


def test_prediction_error_is_binned_by_age() -> None:
    bins = age_bins(requests(100, "netkv_full", 5.0))
    assert bins["requests"].tolist() == [10] * 4
    assert bins["age_s"].is_monotonic_increasing
    assert bins["error"].iloc[0] == pytest.approx(4.5 / 39, rel=0.01)
    assert bins["error"].iloc[-1] == pytest.approx(34.5 / 39, rel=0.01)


def test_a_policy_without_telemetry_has_no_predictions_by_age() -> None:
    assert prediction_error.charts(requests(100, "netkv_static", None)) == []


def test_the_figures_are_written_in_both_formats(tmp_path: Path, mapped: pd.DataFrame) -> None:
    drawn = MAP.draw(mapped, tmp_path, "note")
    drawn += STALENESS.draw_requests(requests(1, "netkv_full", 5.0), tmp_path, "note")
    names = [place.name for place in drawn]
    assert names == ["staleness_map.png", "staleness_map.svg", "prediction_error.png", "prediction_error.svg"]
    assert "Telemetry refresh interval (s)" in (tmp_path / "staleness_map.svg").read_text()


def test_results_say_what_is_kept_of_the_gain_over_no_telemetry() -> None:
    runs = [requests(100, "netkv_static", None), requests(80, "netkv_full", 0.1), requests(95, "netkv_full", "never")]
    results = STALENESS.results(pd.concat(runs)).set_index("refresh_s")
    assert results.loc[math.inf, "retained_percent"] == pytest.approx(25)
    assert results.loc[0.1, "retained_percent"] == pytest.approx(100)
    assert results.loc[0.1, "telemetry_gain_low"] > 0


def test_the_report_sets_a_small_change_beside_the_gain_of_telemetry_itself() -> None:
    runs = [requests(100, "netkv_static", None), requests(98, "netkv_full", 0.1), requests(99, "netkv_full", "never")]
    _, staleness, _ = three_sentences([SimpleNamespace(requests=pd.concat(runs), runs=())], None)  # type: ignore[list-item]
    assert "within 5 % either way, and 50 % [50, 50] of the gain over NetKV-Static" in staleness
    _, staleness, _ = three_sentences([SimpleNamespace(requests=pd.concat(runs[1:]), runs=())], None)  # type: ignore[list-item]
    assert "what there was to lose is not known" in staleness


def test_results_compare_with_the_freshest_view() -> None:
    fresh, old = requests(100, "netkv_full", 0.1), requests(120, "netkv_full", "never")
    old.loc[:9, "tier"] = 3
    results = STALENESS.results(pd.concat([fresh, old])).set_index("refresh_s")
    assert results.loc[math.inf, "aged_change_percent"] == pytest.approx(20)
    assert results.loc[0.1, "aged_change_percent"] == pytest.approx(0)
    assert results.loc[math.inf, "same_tier"] == pytest.approx(30 / 36)  # the first four of forty are warm-up
