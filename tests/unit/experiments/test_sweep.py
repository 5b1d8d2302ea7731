"""The staleness sweep: which runs it is made of, that it can be continued, and what is made of its results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from experiments import running
from experiments.cli import app
from experiments.questions import QUESTIONS, SweepProfile, noise_sentence
from experiments.running import store, sweep
from experiments.running.errors import SpecError, StoreError
from experiments.running.run_spec import RunSpec
from experiments.running.store import is_run
from experiments.running.sweep import ORDER_SEED, Condition, in_random_order, read_sweep, run_sweep
from experiments.running.sweep_folder import read_description
from scenario import Scenario, load_requests
from serving import Outcome
from tests.support.made_runs import lost, outcome, record

STALENESS = QUESTIONS["staleness"]
TINY = replace(
    STALENESS,
    profiles={
        "tiny": SweepProfile(
            refresh_s=(1.0, 5.0),
            seeds=(0, 1),
            changes={"workload.requests": 3},
            axes={"congestion": ("onoff",)},
        )
    },
)
POLICIES = ("round_robin", "netkv_full")


def conditions(policies: tuple[str, ...] = POLICIES, worlds: tuple[str, ...] = ("analytic",), **changes: Any) -> Any:
    """Conditions of the tiny profile with changes; `__` stands for the dot in a field's name."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return TINY.conditions("tiny", policies, worlds, dotted)


# Which runs


def test_only_who_reads_telemetry_is_run_at_every_refresh_interval() -> None:
    made = conditions(("round_robin", "netkv_static", "netkv_full"))
    assert [condition.name for condition in made] == [
        f"analytic-{run}-seed{seed}"
        for seed in (0, 1)
        for run in ("round_robin", "netkv_static", "netkv_full-refresh1s", "netkv_full-refresh5s")
    ]
    for condition in made:
        swept = condition.spec.policy == "netkv_full"
        assert condition.labels["refresh_s"] == (condition.spec.oracle.refresh_s if swept else None)
        assert (condition.spec.seed, condition.spec.world) == (condition.labels["seed"], condition.labels["world"])
        assert condition.spec.workload.requests == 3


def test_all_policies_of_a_seed_see_the_same_requests_and_traffic() -> None:
    first, *others = [condition.spec for condition in conditions() if condition.spec.seed == 1]
    for other in others:
        assert load_requests(other.scenario) == load_requests(first.scenario)
        assert other.background(*other.build(), 50.0) == first.background(*first.build(), 50.0)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"oracle__refresh_s": 2.5, "seed": 3}, ["round_robin-seed3", "netkv_full-refresh2.5s-seed3"]),
        ({"oracle__refresh_s": "2", "seed": "3"}, ["round_robin-seed3", "netkv_full-refresh2s-seed3"]),
    ],
)
def test_a_refresh_interval_or_seed_of_the_users_own_replaces_the_profiles(
    changes: dict[str, Any], names: list[str]
) -> None:
    assert [condition.name for condition in conditions(**changes)] == [f"analytic-{name}" for name in names]


def test_a_policy_named_twice_is_run_once() -> None:
    assert len(conditions(("cla", "cla"))) == len(conditions(("cla",))) == 2


def test_both_worlds_run_the_same() -> None:
    by_world = {world: conditions(worlds=(world,)) for world in ("emulated", "analytic")}
    both = conditions(worlds=("emulated", "analytic"))
    assert both == [*by_world["emulated"], *by_world["analytic"]]
    scenarios = [[condition.spec.scenario for condition in made] for made in by_world.values()]
    assert scenarios[0] == scenarios[1]


@pytest.mark.parametrize("name", sorted(STALENESS.profiles))
def test_every_profile_varies_refresh_and_seed_over_valid_specifications(name: str) -> None:
    profile = STALENESS.profiles[name]
    made = STALENESS.conditions(name, ("netkv_full",), ("emulated",), {})
    runs = len(profile.refresh_s) * len(profile.seeds) * max(len(profile.workloads), 1)
    beside = len(profile.beside.refresh_s) * len(profile.beside.seeds) if profile.beside else 0
    assert len({condition.name for condition in made}) == runs + profile.control + beside == len(made)


@pytest.mark.parametrize("name", ["policy", "world"])
def test_what_the_sweep_sets_itself_cannot_be_set(name: str) -> None:
    with pytest.raises(SpecError, match=f"^{name}: a sweep sets it for each of its runs"):
        TINY.conditions("tiny", POLICIES, ("analytic",), {name: "analytic"})


# Running and continuing


class FakeWorld:
    """Replays nothing; notes what it was asked for, and breaks at the run it is told to."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.ran: list[tuple[str, float, int]] = []
        self.breaks_at: int | None = None

    @contextmanager
    def open(self, spec: RunSpec, _: Any) -> Iterator[FakeWorld]:
        self.opened.append(spec.world)
        yield self

    def run(self, scenario: Scenario, progress: Any) -> Outcome:
        if len(self.ran) == self.breaks_at:
            raise KeyboardInterrupt
        self.ran.append((scenario.policy, scenario.oracle.refresh_s, scenario.seed))
        progress(1)
        slower = 1.0 if scenario.policy == "round_robin" else 0.8
        records = [record(k, slower * 100 * (k + 1), policy=scenario.policy) for k in range(3)]
        return outcome(*records, lost(3, "failed", "reset", scenario.policy))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    fake = FakeWorld()
    monkeypatch.setattr(sweep, "open_world", fake.open)
    return fake


def run(out: Path, made: list[Condition], *, resume: bool = False) -> str:
    said = StringIO()
    run_sweep("staleness", made, out, resume=resume, console=Console(file=said, width=200))
    return said.getvalue()


def test_a_sweep_makes_a_folder_a_run_on_one_bring_up(tmp_path: Path, world: FakeWorld) -> None:
    made = conditions()
    said = run(tmp_path / "sweep", made)
    assert world.opened == ["analytic"]
    assert world.ran == [
        (policy, refresh_s, seed)
        for seed in (0, 1)
        for policy, refresh_s in (("round_robin", 1.0), ("netkv_full", 1.0), ("netkv_full", 5.0))
    ]
    assert all(is_run(tmp_path / "sweep" / "runs" / condition.name) for condition in made)
    assert [line.split()[0] for line in said.splitlines()[:6]] == [f"{k}/6" for k in range(1, 7)]


def test_emulated_runs_are_made_in_random_order_within_a_seed(tmp_path: Path, world: FakeWorld) -> None:
    made = STALENESS.conditions("quick", STALENESS.policies, ("emulated", "analytic"), {})
    ordered = in_random_order(made)
    assert in_random_order(made) == ordered
    assert sorted(one.name for one in ordered) == sorted(one.name for one in made)
    assert [one.labels["seed"] for one in ordered] == [one.labels["seed"] for one in made]
    places = [[one.spec.policy for one in ordered[6 * block : 6 * block + 6]] for block in range(3)]
    assert len({tuple(block) for block in places}) > 1
    assert ordered[18:] == made[18:]  # the analytic ones
    run(tmp_path / "sweep", conditions(worlds=("emulated",)))
    assert read_description(tmp_path / "sweep")["order_seed"] == ORDER_SEED
    assert [policy for policy, _, _ in world.ran] != ["round_robin", "netkv_full", "netkv_full"] * 2


def test_runs_on_different_fabrics_are_brought_up_apart(tmp_path: Path, world: FakeWorld) -> None:
    run(tmp_path / "sweep", conditions(worlds=("emulated", "analytic")))
    assert world.opened == ["emulated", "analytic"]


def test_resume_picks_up_exactly_what_is_missing(tmp_path: Path, world: FakeWorld) -> None:
    made, out = conditions(), tmp_path / "sweep"
    world.breaks_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(out, made)
    done = sorted(place.name for place in (out / "runs").iterdir())
    assert done == sorted(condition.name for condition in made[:2])
    world.breaks_at = None
    assert "2 of 6 runs are there already" in run(out, made, resume=True)
    assert len(world.ran) == len(set(world.ran)) == 6
    run(out, made, resume=True)
    assert len(world.ran) == 6


def test_a_sweep_that_never_began_leaves_nothing(tmp_path: Path, world: FakeWorld) -> None:
    world.breaks_at = 0
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "sweep", conditions())
    assert list(tmp_path.iterdir()) == []
    world.breaks_at = None
    run(tmp_path / "sweep", conditions(), resume=True)
    assert len(world.ran) == 6


def test_a_write_that_is_interrupted_leaves_no_half_run(
    tmp_path: Path, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = store.sync

    def interrupted(place: Path) -> None:
        sync(place)
        if "netkv_full-refresh5s-seed0" in str(place):
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, conditions())
    assert sorted(place.name for place in (tmp_path / "runs").iterdir()) == [
        "analytic-netkv_full-refresh1s-seed0",
        "analytic-round_robin-seed0",
    ]


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"workload__requests": 4}, r"specs.analytic-netkv_full-refresh1s-seed0.workload.requests was 3, now 4"),
        ({"seed": 0}, r"runs.analytic-netkv_full-refresh1s-seed1 is only in the old one"),
        ({"policies": ("round_robin", "cla", "netkv_full")}, r"runs.analytic-cla-seed0 is only in the new one"),
    ],
)
def test_resume_refuses_another_sweep_and_names_the_difference(
    tmp_path: Path, world: FakeWorld, changed: dict[str, Any], difference: str
) -> None:
    run(tmp_path, conditions())
    before = (tmp_path / "sweep.json").read_text()
    with pytest.raises(SpecError, match=f"^{re.escape(f'{tmp_path}: holds another sweep: {difference}')}$"):
        run(tmp_path, conditions(**changed), resume=True)
    assert (tmp_path / "sweep.json").read_text() == before
    assert len(world.ran) == 6


def test_without_resume_nothing_is_added_to_a_sweep(tmp_path: Path, world: FakeWorld) -> None:
    run(tmp_path, conditions())
    with pytest.raises(StoreError, match=r"is there already \(add --resume to continue it"):
        run(tmp_path, conditions())


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"runs": []}'])
def test_a_damaged_description_is_refused(tmp_path: Path, world: FakeWorld, content: str) -> None:
    (tmp_path / "sweep.json").write_text(content)
    for attempt in (lambda: run(tmp_path, conditions(), resume=True), lambda: read_sweep(tmp_path)):
        with pytest.raises(StoreError, match=r"sweep\.json is damaged: "):
            attempt()


def test_a_sweep_without_a_finished_run_has_no_results(tmp_path: Path, world: FakeWorld) -> None:
    (tmp_path / "sweep.json").write_text('{"runs": {"one": {}}}')
    with pytest.raises(StoreError, match="the sweep holds no finished run"):
        read_sweep(tmp_path)


# Results


@pytest.fixture
def seen(tmp_path: Path, world: FakeWorld) -> pd.DataFrame:
    run(tmp_path / "sweep", conditions())
    return read_sweep(tmp_path / "sweep").assign(snapshots=9.0)


def test_every_request_of_every_run_is_read_with_its_labels(seen: pd.DataFrame) -> None:
    assert len(seen) == 6 * 4
    assert seen["run"].nunique() == 6
    assert set(seen["verdict"]) == {"valid"}
    assert seen.loc[seen["policy"] == "round_robin", "refresh_s"].isna().all()
    assert seen.loc[seen["status"] == "failed", "slo_met"].tolist() == [False] * 6


def test_results_are_a_row_a_policy_and_interval_by_hand(seen: pd.DataFrame) -> None:
    rows = {
        (row["policy"], None if pd.isna(row["refresh_s"]) else row["refresh_s"]): row
        for row in STALENESS.results(seen).to_dict("records")
    }
    assert {key for key in rows if key[0] == "netkv_full"} == {("netkv_full", 1.0), ("netkv_full", 5.0)}
    base, full = rows["round_robin", None], rows["netkv_full", 5.0]
    assert (base["requests"], base["completed"], full["requests"]) == (8, 6, 8)
    assert base["ttft_ms"] == pytest.approx(200)
    assert full["ttft_ms"] == pytest.approx(160)
    assert full["ttft_change_percent"] == pytest.approx(-20)
    assert base["ttft_change_percent"] == pytest.approx(0)
    assert full["prediction_error"] == pytest.approx(0.25)
    assert full["slo_attainment"] == pytest.approx(0.75)


def test_invalid_runs_count_for_nothing(seen: pd.DataFrame) -> None:
    seen.loc[(seen["policy"] == "netkv_full") & (seen["refresh_s"] == 5.0), "verdict"] = "invalid"
    assert STALENESS.results(seen)["refresh_s"].dropna().tolist() == [1.0]
    assert STALENESS.results(seen.assign(verdict="invalid")).empty


def test_rows_keep_their_order_whichever_run_is_invalid(seen: pd.DataFrame) -> None:
    whole = STALENESS.results(seen)[["policy", "refresh_s"]]
    first = (seen["policy"] == "netkv_full") & (seen["refresh_s"] == 1.0) & (seen["seed"] == seen["seed"].min())
    seen.loc[first, "verdict"] = "invalid"
    pd.testing.assert_frame_equal(STALENESS.results(seen)[["policy", "refresh_s"]], whole)


def test_an_invalid_run_takes_no_pairs_but_its_own(seen: pd.DataFrame) -> None:
    base = seen[seen["policy"] == "round_robin"]
    lost = pd.concat([seen, base.assign(policy="cla", run=base["run"] + "-cla")], ignore_index=True)
    lost.loc[(lost["policy"] == "netkv_full") & (lost["seed"] == 1), "verdict"] = "invalid"
    rows = STALENESS.results(lost).set_index("policy")
    assert (rows.loc["cla", "ttft_change_seeds"], rows.loc["cla", "left_out"]) == (2, 0)
    assert rows.loc["netkv_full", "ttft_change_seeds"].tolist() == [1, 1]
    assert rows.loc["netkv_full", "left_out"].tolist() == [1, 1]
    said = StringIO()
    Console(file=said, width=80).print(STALENESS.table(rows.reset_index()))
    assert "2 invalid runs left out" in " ".join(said.getvalue().split())


def test_the_table_names_every_policy_within_80_columns(seen: pd.DataFrame) -> None:
    said = StringIO()
    Console(file=said, width=80).print(STALENESS.table(STALENESS.results(seen)))
    text = said.getvalue()
    assert "round_robin" in text
    assert "-20.0" in text
    assert "…" not in text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("worlds", [("analytic",), ("emulated", "analytic")])
def test_the_figure_has_labelled_axes_in_both_formats(
    tmp_path: Path, seen: pd.DataFrame, worlds: tuple[str, ...]
) -> None:
    results = STALENESS.results(pd.concat([seen.assign(world=world) for world in worlds]))
    written = STALENESS.draw(results, tmp_path, "a note")
    assert [place.name for place in written] == ["staleness.png", "staleness.svg"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    svg = written[1].read_text()
    assert svg.count("Telemetry refresh interval (s)") == 3 * len(worlds)
    for label in ("Mean time to first token (ms)", "Mean time between tokens (ms)", "Requests within their SLO (%)"):
        assert svg.count(label) == len(worlds)
    for text in ("Round-robin", "NetKV-Full", "a note", *(f"{world} world" for world in worlds)):
        assert text in svg


def test_the_same_results_draw_the_same_figure(tmp_path: Path, seen: pd.DataFrame) -> None:
    results = STALENESS.results(seen)
    drawn = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        drawn.append(STALENESS.draw(results, tmp_path / name, "")[1].read_text())
    assert drawn[0] == drawn[1]


def test_a_users_policy_has_a_line_of_its_own(tmp_path: Path, seen: pd.DataFrame) -> None:
    mine = seen[seen["policy"] == "netkv_full"].assign(policy="mine:Policy")
    STALENESS.draw(STALENESS.results(pd.concat([seen, mine])), tmp_path, "")
    assert "mine:Policy" in (tmp_path / "staleness.svg").read_text()


def test_a_sweep_of_invalid_runs_alone_says_so_and_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "read_sweep", lambda place: read_sweep(place).assign(verdict="invalid"), raising=False)
    few = ("--requests", "2", "--refresh", "1", "--policies", "round_robin", "--out", str(tmp_path / "new"), "--json")
    with pytest.raises(SystemExit, match="1"):
        app(["sweep", "staleness", "--world", "analytic", "--profile", "quick", *few])
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["left_out"] == [f"analytic-round_robin-seed{seed}" for seed in range(3)]
    assert list(told["left_out_because"]) == told["left_out"]
    assert "every run is invalid: verdict_reasons in" in printed.err
    assert "`netkv plan --calibrate` what this machine carries" in printed.err


# The control run


def test_a_control_run_is_counted_in_no_table_and_tells_the_noise_floor(tmp_path: Path) -> None:
    first, *others = conditions()
    control = sweep.control_of(first)
    run_sweep("staleness", [first, *others, control], tmp_path / "out", resume=False, console=Console(file=StringIO()))
    seen, again = read_sweep(tmp_path / "out"), sweep.read_control(tmp_path / "out")
    assert again is not None
    assert "control" not in seen.columns
    assert set(again["run"]) == {control.name}
    assert control.name not in set(seen["run"])
    assert again["ttft_ms"].tolist() == seen[seen["run"] == first.name]["ttft_ms"].tolist()
    slower = again.assign(ttft_ms=1.1 * again["ttft_ms"])
    said = noise_sentence(seen, slower)
    assert said is not None
    assert f"{first.name} made twice differs by +10.0 %" in said
    assert noise_sentence(seen, None) is None
