"""Reference results: what is packed is what was run, agreement is found and so is its absence, a policy can enter."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from experiments.cli import app
from experiments.questions import PUBLIC, QUESTIONS, SweepProfile
from experiments.reference import (
    SWEEPS,
    Agreement,
    DataSet,
    agreement_text,
    board_page,
    board_text,
    compare_sweep,
    data_card,
    default_place,
    entry_conditions,
    make_board,
    open_reference,
    pack,
    planned_emulated,
    planned_sweep,
    read_data_set,
)
from experiments.reference.agreement import _row, _same_question
from experiments.reference.data_set import _packed
from experiments.running import Condition, StoreError, make_spec, read_sweep, run_sweep
from testbed import EmulationSpec
from tests.support.made_runs import spec
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("reference")
"""On one processor: its sweeps are made once."""

CHANGES = {"workload.requests": 20, "workload.max_output_tokens": 4, "workload.max_input_tokens": 8192}
POLICIES = ("round_robin", "netkv_static", "conductor")
LARGEST_BYTES = 5_000_000
COMMANDS = {("regimes", "analytic"): "netkv sweep regimes"}

FARTHEST = """
class Farthest:
    def select(self, request, candidates, view):
        return candidates.best(-candidates.tier)
"""


def tiny(name: str, seeds: tuple[int, ...] = (0, 1), **axes: Any) -> SweepProfile:
    return SweepProfile(seeds, CHANGES, axes=axes)


def sweep_into(out: Path, name: str, profile: SweepProfile, policies: tuple[str, ...] = POLICIES) -> Path:
    question = replace(QUESTIONS[name], profiles={"tiny": profile})
    conditions = question.conditions("tiny", policies, ("analytic",), {})
    run_sweep(name, conditions, out, resume=False, console=Console(file=StringIO()))
    return out


@pytest.fixture(scope="module")
def regimes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two regimes, two seeds."""
    profile = tiny("regimes", regime=("baseline", "shuffle"))
    return sweep_into(tmp_path_factory.mktemp("regimes") / "sweep", "regimes", profile)


@pytest.fixture(scope="module")
def data(regimes: Path, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    out = tmp_path_factory.mktemp("reference")
    return pack([regimes], out, lambda found: data_card(found, COMMANDS, "netkv build"))


# The data set


def test_what_is_packed_is_what_was_run(regimes: Path, data: DataSet) -> None:
    seen, held = read_sweep(regimes), data.requests("regimes")
    keys = ["run", "request_id"]
    for name in ("decode_id", "status", "policy", "seed", "regime", "world", "workload", "verdict"):
        assert held.sort_values(keys)[name].tolist() == seen.sort_values(keys)[name].tolist()
    for name in ("ttft_ms", "kv_transfer_ms"):
        pd.testing.assert_series_equal(
            held.sort_values(keys)[name].reset_index(drop=True),
            seen.sort_values(keys)[name].reset_index(drop=True),
            atol=0.5001e-3,
            rtol=0,
        )


def test_the_same_sweeps_are_the_same_bytes(regimes: Path, data: DataSet, tmp_path: Path) -> None:
    pack(
        [regimes],
        tmp_path,
        lambda found: data_card(found, COMMANDS, "netkv build"),
    )
    for name in ("requests.parquet", "runs.parquet", "README.md"):
        assert (tmp_path / name).read_bytes() == (data.place / name).read_bytes()


def test_a_request_that_was_turned_away_has_no_times(data: DataSet, tmp_path: Path) -> None:
    held = data.rows.copy()
    held.loc[0, ["ttft_ms", "kv_transfer_ms"]] = math.nan
    packed = _packed(held)
    assert packed["ttft_us"].null_count == held["ttft_ms"].isna().sum() > 0
    assert packed["ttft_us"][1].as_py() == round(held.loc[1, "ttft_ms"] * 1e3)


def test_the_card_names_columns_units_code_machine_command_and_licence(data: DataSet) -> None:
    card = (data.place / "README.md").read_text()
    columns = {*pd.read_parquet(data.place / "requests.parquet"), *pd.read_parquet(data.place / "runs.parquet")}
    told = card.replace(",", " ").replace("|", " ").split()
    assert sorted(columns - set(told)) == []
    for part in (*data.code("regimes").values(), *set(data.runs["machine"]), "netkv sweep regimes", "Apache-2.0"):
        assert part in card


def test_the_runs_of_a_trace_are_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    rows = [{"timestamp": 0, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]}]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = Condition("one", spec(policy="round_robin", workload__trace=str(trace)), {"seed": 0})
    run_sweep("regimes", [made], tmp_path / "sweep", resume=False, console=Console(file=StringIO()))
    with pytest.raises(StoreError, match="replays a trace, whose data a reference does not hold"):
        pack([tmp_path / "sweep"], tmp_path, lambda _: "")


def test_what_is_no_reference_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"neither a sweep .* nor reference results"):
        open_reference(str(tmp_path))
    (tmp_path / "runs.parquet").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="damaged reference results"):
        open_reference(str(tmp_path))


# Agreement


def compared(data: DataSet, sweep: Path, seen: pd.DataFrame | None = None) -> Agreement:
    return compare_sweep(data, sweep, read_sweep(sweep) if seen is None else seen, ["regime"], "round_robin")


def test_a_sweep_agrees_with_itself_to_rounding(regimes: Path, data: DataSet) -> None:
    found = compared(data, regimes)
    assert found.holds
    assert {one.verdict for one in found.rows} == {"equal"}
    assert len(found.rows) == 2 * len(POLICIES)
    assert agreement_text(found) == [
        f"Against {data.place}: your results agree in the analytic world:"
        f" {2 * 2 * 20 * len(POLICIES)} requests in {2 * 2 * len(POLICIES)} runs, all equal to rounding."
    ]


def test_one_other_decision_is_found(regimes: Path, data: DataSet) -> None:
    seen = read_sweep(regimes)
    at = seen.index[(seen["policy"] == "netkv_static") & (seen["regime"] == "shuffle") & (seen["request_id"] == 9)][0]
    seen.loc[at, "decode_id"] += 1
    found = compared(data, regimes, seen)
    assert not found.holds
    (wrong,) = [one for one in found.rows if one.verdict == "differs"]
    assert (wrong.name, wrong.unequal, wrong.largest_ms) == (
        "conversation, shuffle, netkv_static",
        1,
        pytest.approx(0, abs=1e-3),
    )
    assert "your results differ in the analytic world in 1 of 6 rows" in agreement_text(found)[0]
    assert "The code is the same" in agreement_text(found)[0]


def test_a_microsecond_is_rounding_and_ten_are_not(regimes: Path, data: DataSet) -> None:
    seen = read_sweep(regimes)
    assert compared(data, regimes, seen.assign(ttft_ms=seen["ttft_ms"] + 0.4e-3)).holds
    assert not compared(data, regimes, seen.assign(ttft_ms=seen["ttft_ms"] + 10e-3)).holds


def test_other_code_is_named(regimes: Path, data: DataSet) -> None:
    other = replace(data, runs=data.runs.assign(source="0123456789ab"))
    seen = read_sweep(regimes)
    text = agreement_text(compared(other, regimes, seen.assign(ttft_ms=seen["ttft_ms"] * 1.01)))[0]
    assert "The code is another" in text
    assert "reference 0123456789ab" in text
    assert "mean TTFT +1.00 %" in text


def frames(shift: float, noise: float, seeds: int = 8, requests: int = 40) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same requests measured twice: the second with a shift of the mean, relative, and noise of each seed's."""
    drawn = np.random.default_rng(3)
    rows = [(seed, number) for seed in range(seeds) for number in range(requests)]
    before = pd.DataFrame(rows, columns=["seed", "request_id"]).assign(
        ttft_ms=drawn.uniform(500, 1500, len(rows)), decode_id=2, status="completed", verdict="valid"
    )
    before["run"] = before["seed"].astype(str)
    of_seed = 1 + shift + noise * drawn.normal(size=seeds)
    return before, before.assign(ttft_ms=before["ttft_ms"] * of_seed[before["seed"]])


@pytest.mark.parametrize(
    ("shift", "noise", "verdict"),
    [(0.0, 0.01, "agrees"), (0.01, 0.01, "agrees"), (0.2, 0.02, "differs"), (0.04, 0.2, "undecided")],
)
def test_emulated_rows_agree_differ_or_are_not_decided(shift: float, noise: float, verdict: str) -> None:
    before, after = frames(shift, noise)
    row = {"world": "emulated", "workload": "rag", "policy": "netkv_full", "refresh_s": 1.0}
    assert _row(row, before, after, (None, None)).verdict == verdict


def test_a_gain_that_is_gone_differs_though_the_mean_hardly_moved() -> None:
    """The baseline is 20 % slower in both worlds' reference, and as fast as the policy in the sweep."""
    before, after = frames(0.0, 0.005)
    base = before.assign(ttft_ms=before["ttft_ms"] * 1.2)
    row = {"world": "emulated", "workload": "rag", "policy": "netkv_full", "refresh_s": 1.0}
    found = _row(row, before, after, (base, after))
    assert found.change.value == pytest.approx(0, abs=1)
    assert found.effect.value == pytest.approx(100 * (1 - 1 / 1.2), abs=0.01)  # points
    assert found.verdict == "differs"


def test_what_is_not_decided_does_not_hold_and_says_so() -> None:
    before, after = frames(0.04, 0.2)
    row = {"world": "emulated", "workload": "rag", "policy": "netkv_full", "refresh_s": 1.0}
    found = Agreement(Path("there"), {}, {}, (_row(row, before, after, (None, None)),), 0)
    assert not found.holds
    (text,) = agreement_text(found)
    assert text.startswith("Against there: your results neither agree nor differ for sure in the emulated world")
    assert "1 are not decided (rag, netkv_full at 1 s" in text


def test_an_emulation_on_another_machine_is_the_same_question(data: DataSet) -> None:
    """`rate_scale` is of the machine; `congestion.kind` is of the question."""
    known = make_spec(json.loads(data.runs["spec"].iloc[0]), {"world": "emulated"})
    assert _same_question(known, known.model_copy(update={"emulation": EmulationSpec(time_dilation=2.0)}))
    assert not _same_question(known, make_spec(known.model_dump(mode="json"), {"congestion.kind": "shuffle"}))


def ask(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def swept(out: Path, *more: str) -> list[str]:
    """A sweep of one seed that takes a second."""
    options = ["--requests", "6", "--seed", "4", "--set", "workload.profile=rag", "--quiet"]
    return ["sweep", "ablation", "--world", "analytic", *options, "--out", str(out), *more]


def test_the_command_line_says_in_words_and_exit_code_whether_results_agree(tmp_path: Path) -> None:
    assert ask(*swept(tmp_path / "one")).exit_code == 0
    same = ask(*swept(tmp_path / "two", "--against", str(tmp_path / "one")))
    assert same.exit_code == 0, same.output
    assert "your results agree in the analytic world" in same.output
    assert "your results agree" in (tmp_path / "two" / "conclusions.txt").read_text()
    table = next((tmp_path / "one" / "runs").glob("*netkv_full*")) / "requests.parquet"
    rows = pd.read_parquet(table)
    rows.assign(ttft_ms=rows["ttft_ms"] + 1.0).to_parquet(table)
    other = ask(*swept(tmp_path / "three", "--against", str(tmp_path / "one"), "--json"))
    assert other.exit_code == 1
    assert json.loads(other.stdout)["agreement"]["holds"] is False
    nothing = ask(*swept(tmp_path / "four", "--against", str(tmp_path / "one"), "--set", "seed=5"))
    assert "has none of these runs" in f"{nothing.exception}"
    assert not (tmp_path / "four").exists()


def test_a_reference_without_the_question_ends_before_anything_runs(data: DataSet, tmp_path: Path) -> None:
    done = ask(*swept(tmp_path / "out", "--against", str(data.place)))
    assert "has no runs of ablation; it has regimes" in f"{done.exception}"
    assert not (tmp_path / "out").exists()


# The leaderboard


def test_a_policy_twice_as_slow_everywhere_has_twice_the_score_and_no_share_of_the_first_place(data: DataSet) -> None:
    requests = data.requests("regimes")
    base = requests[requests["policy"] == "round_robin"]
    slow = base.assign(policy="slow", ttft_ms=2 * base["ttft_ms"], run=base["run"] + "-slow")
    (board,) = make_board(pd.concat([base, slow]))
    first, second = board.standings
    assert (first.policy, second.policy) == ("round_robin", "slow")
    assert second.score is not None
    assert second.behind is not None
    assert (second.score.value, second.score.low, second.score.high) == pytest.approx((100, 100, 100))
    assert second.behind.value == pytest.approx(100)
    assert not second.ties_with_first
    assert {regime: cell.change.value for regime, cell in second.cells.items()} == pytest.approx(
        {"baseline": 100, "shuffle": 100}
    )


def test_a_long_name_gives_way_to_the_figures_on_80_columns(data: DataSet) -> None:
    requests = data.requests("regimes")
    base = requests[requests["policy"] == "round_robin"]
    name = "a_module_of_theirs:APolicyOfTheirs"
    slow = base.assign(policy=name, ttft_ms=2 * base["ttft_ms"], run=base["run"] + "-slow")
    (board,) = make_board(pd.concat([base, slow]))
    console = Console(file=StringIO(), width=80)
    console.print(board_text(board, [name]))
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert "…" not in shown
    assert "+100.0 [+100.0, +100.0]" in shown


def test_the_score_is_the_geometric_mean_over_regimes(data: DataSet) -> None:
    requests = data.requests("regimes")
    base = requests[requests["policy"] == "round_robin"]
    factor = base["regime"].map({"baseline": 0.5, "shuffle": 8.0})
    mixed = base.assign(policy="mixed", ttft_ms=factor * base["ttft_ms"], run=base["run"] + "-mixed")
    (board,) = make_board(pd.concat([base, mixed]))
    score = next(one.score for one in board.standings if one.policy == "mixed")
    assert score is not None
    assert score.value == pytest.approx(100 * (math.sqrt(0.5 * 8) - 1))


def test_who_turns_requests_away_has_no_place(data: DataSet) -> None:
    requests = data.requests("regimes")
    picky = requests["policy"] == "conductor"
    requests.loc[picky & (requests["request_id"] == 12), ["status", "ttft_ms"]] = ["rejected", math.nan]
    (board,) = make_board(requests)
    standing = board.standings[-1]
    assert (standing.policy, standing.score) == ("conductor", None)
    assert all(cell.rejected_percent == pytest.approx(100 / 20) for cell in standing.cells.values())
    assert "No place: conductor" in board_page([board], "netkv", [])


@pytest.fixture
def farthest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's own policy, in the folder that the command is given in."""
    (tmp_path / "farthest_policy.py").write_text(FARTHEST)
    monkeypatch.chdir(tmp_path)
    return "farthest_policy:Farthest"


def test_a_users_policy_enters_by_one_command(data: DataSet, farthest: str, tmp_path: Path) -> None:
    place = ["--reference", str(data.place), "--out", str(tmp_path / "board")]
    done = ask("reference", "leaderboard", "--policies", farthest, *place, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    (board,) = said["boards"]
    standing = next(one for one in board["standings"] if one["policy"] == farthest)
    own = read_sweep(tmp_path / "board")
    own = own[own["policy"] == farthest]
    known = data.requests("regimes")
    base = known[known["policy"] == "round_robin"]
    for regime in ("baseline", "shuffle"):
        counted = [rows[(rows["regime"] == regime) & (rows["request_id"] >= 2)] for rows in (base, own)]
        means = [float(rows["ttft_ms"].mean()) for rows in counted]
        assert standing["cells"][regime]["change"]["value"] == pytest.approx(100 * (means[1] / means[0] - 1), abs=1e-3)
    assert farthest in (tmp_path / "board" / "leaderboard.md").read_text()
    assert said["agreement"]["holds"] is True


def test_runs_of_a_router_at_a_url_are_told_apart(data: DataSet) -> None:
    """A folder is named by what follows its last slash."""
    conditions = entry_conditions(data, ["http://127.0.0.1:8000/select#snapshot"])
    names = [condition.name for condition in conditions]
    assert not [name for name in names if "/" in name or "#" in name]
    assert len(set(names)) == len(names)


def test_a_policy_that_breaks_is_named_and_the_exit_code_tells(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = FARTHEST.replace("Farthest", "Nobody").replace("candidates.best(-candidates.tier)", "-1")
    (tmp_path / "broken_policy.py").write_text(broken)
    monkeypatch.chdir(tmp_path)
    place = ["--reference", str(data.place), "--out", str(tmp_path / "board")]
    done = ask("reference", "leaderboard", "--policies", "broken_policy:Nobody", *place)
    assert done.exit_code == 1
    assert "4 runs are invalid and left out; no score counts the requests of their regimes and seeds: " in done.output
    assert "broken_policy.Nobody" in done.output


def test_a_policy_is_not_ranked_beside_results_of_other_code(data: DataSet, farthest: str, tmp_path: Path) -> None:
    shutil.copytree(data.place, tmp_path / "other")
    table = tmp_path / "other" / "requests.parquet"
    rows = pd.read_parquet(table)
    rows.assign(ttft_us=rows["ttft_us"] + 500).to_parquet(table)
    place = ["--reference", str(tmp_path / "other"), "--out", str(tmp_path / "board")]
    done = ask("reference", "leaderboard", "--policies", farthest, *place)
    assert done.exit_code == 1
    assert "your results differ in the analytic world" in done.output


def test_a_policy_that_is_there_already_is_refused(data: DataSet, tmp_path: Path) -> None:
    done = ask("reference", "leaderboard", "--policies", "netkv_static", "--reference", str(data.place), "--out", "x")
    assert "netkv_static is on the leaderboard already" in f"{done.exception}"


# Building, and what the repository holds


def test_a_build_is_whole_after_a_second_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = replace(QUESTIONS["prefix"], profiles={"quick": tiny("prefix", (0,), sharing=(0.0,))})
    from experiments.reference import planned

    monkeypatch.setattr(planned, "QUESTIONS", {"prefix": question})
    asked = ["reference", "build", "--questions", "prefix", "--out", str(tmp_path / "made")]
    done = ask(*asked)
    assert done.exit_code == 0, done.output
    first = (tmp_path / "made" / "requests.parquet").read_bytes()
    lost = next((tmp_path / "made" / "sweeps" / "prefix" / "runs").iterdir())
    shutil.rmtree(lost)
    assert "add --resume" in f"{ask(*asked).exception}"
    assert ask(*asked, "--resume").exit_code == 0
    assert (tmp_path / "made" / "requests.parquet").read_bytes() == first


def test_the_reference_of_the_regimes_has_every_public_policy() -> None:
    assert set(SWEEPS) <= set(QUESTIONS)
    conditions, command = planned_sweep("regimes", "quick")
    assert {condition.spec.policy for condition in conditions} >= set(PUBLIC)
    assert "--policies round_robin," in command


def test_in_emulation_every_policy_meets_every_regime_as_a_sweep_of_it_would() -> None:
    found = {condition.name: condition for condition in planned_emulated(2)}
    assert {condition.spec.seed for condition in found.values()} == {0, 1}
    regimes = {condition.labels["regime"] for condition in found.values()}
    policies = {condition.spec.policy for condition in found.values()}
    assert (len(regimes), len(found)) == (9, 2 * 9 * len(policies))
    own = QUESTIONS["regimes"].conditions("quick", sorted(policies), ("emulated",), {})
    assert len(own) == 2 * len(policies)
    for condition in own:
        assert (found[condition.name].spec, found[condition.name].labels) == (condition.spec, condition.labels)


def test_the_repositorys_reference_is_small_and_no_part_of_a_wheel() -> None:
    place = default_place()
    assert sum(file.stat().st_size for file in place.iterdir()) <= LARGEST_BYTES
    assert not place.is_relative_to(ROOT / "experiments")


@pytest.fixture(scope="module")
def kept() -> DataSet:
    return read_data_set(default_place())


@pytest.mark.parametrize("question", SWEEPS)
def test_this_code_makes_runs_of_the_repositorys_reference_anew(kept: DataSet, question: str, tmp_path: Path) -> None:
    """One run of each question, by the policy that reads telemetry; `netkv reference build` where results are meant to
    change."""
    runs = kept.runs[(kept.runs["question"] == question) & (kept.runs["world"] == "analytic")]
    chosen = runs[runs["policy"] == "netkv_full"].iloc[0]
    conditions, _ = planned_sweep(question, "quick")
    (condition,) = [one for one in conditions if one.name == chosen["name"]]
    run_sweep(question, [condition], tmp_path / "sweep", resume=False, console=Console(file=StringIO()))
    seen = read_sweep(tmp_path / "sweep")
    axes = [axis.label for axis in QUESTIONS[question].axes]
    found = compare_sweep(kept, tmp_path / "sweep", seen, axes, QUESTIONS[question].references[0])
    assert [one.verdict for one in found.rows] == ["equal"], agreement_text(found)


def test_the_page_of_the_leaderboard_is_that_of_the_repositorys_reference(kept: DataSet) -> None:
    page = (ROOT / "docs" / "reference" / "leaderboard.md").read_text()
    done = ask("reference", "leaderboard", "--json")
    for board in json.loads(done.stdout)["boards"]:
        for standing in board["standings"]:
            assert f"| {standing['policy']} |" in page
            if standing["score"] and standing["policy"] != "round_robin":
                assert f"{standing['score']['value']:+.1f} [" in page
