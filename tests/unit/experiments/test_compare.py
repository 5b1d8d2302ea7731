"""Emulated against analytic: recorded transfers on the models, errors, ECMP's spread, rankings, and the verbs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.comparing.comparison import compare_folders
from experiments.comparing.ecmp_report import agreement, busiest_links, collisions, spread_by_tier
from experiments.comparing.fluid_twins import replayed
from experiments.comparing.independent_runs import (
    IndependentRun,
    Pair,
    independent_report,
    kendall_tau,
    pair_up,
    parting,
)
from experiments.comparing.recorded_run import read_recorded
from experiments.running.errors import StoreError
from experiments.running.run_spec import make_spec
from experiments.running.store import write_run
from scenario import BackgroundFlow
from serving import Outcome, RequestRecord
from simulator.path_choice import BACKGROUND, TRANSFER
from simulator.recorded import RecordedPaths, RecordedTransfer, replay_recorded
from simulator.transport import FluidTransport
from topologies import Fabric, FabricSpec, build_fattree

FRAMES = 1514 / 1448


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return build_fattree(FabricSpec())


def finish(
    fabric: Fabric, transfers: list[RecordedTransfer], background: tuple[BackgroundFlow, ...] = (), **paths: list[int]
) -> dict[int, float]:
    """When transfers end on a fluid; `t0=[0, 1]`: the paths of transfer 0, `b9` those of background flow 9."""
    taken = {(TRANSFER if name[0] == "t" else BACKGROUND, int(name[1:])): found for name, found in paths.items()}
    return replay_recorded(FluidTransport(fabric, RecordedPaths(taken)), transfers, background)


def uplink_Bps(fabric: Fabric) -> float:
    return fabric.link_by_name["tor0>agg0"].capacity_bps / 8


def test_a_transfer_alone_takes_its_bytes_over_its_bottleneck(fabric: Fabric) -> None:
    ends_s = finish(fabric, [RecordedTransfer(5, 3.0, 0, 2, 25e9, 4)])
    assert ends_s[5] == pytest.approx(3.0 + 25e9 / (fabric.spec.nic_rate_bps / 8))


def test_stripes_that_took_one_path_are_slower_than_stripes_on_two(fabric: Fabric) -> None:
    blob = RecordedTransfer(0, 0.0, 0, 4, 10e9, 2)
    bunched, spread = finish(fabric, [blob], t0=[0, 0])[0], finish(fabric, [blob], t0=[0, 1])[0]
    assert bunched == pytest.approx(10e9 / uplink_Bps(fabric))
    assert spread < bunched


def test_background_shares_its_links_for_as_long_as_it_ran(fabric: Fabric) -> None:
    blob = RecordedTransfer(0, 1.0, 0, 4, 2 * uplink_Bps(fabric), 1)
    rival = BackgroundFlow(9, 0.0, 2.0, 1, 5, 1)
    assert finish(fabric, [blob], (rival,), t0=[0], b9=[0])[0] == pytest.approx(3.5)  # half a second's worth by 2 s
    assert finish(fabric, [blob], (rival,), t0=[0], b9=[1])[0] <= 3.5


def test_what_left_during_its_prefill_is_replayed_so(fabric: Fabric) -> None:
    nic_Bps = fabric.spec.nic_rate_bps / 8
    slow = RecordedTransfer(5, 3.0, 0, 2, nic_Bps, 4, overlap=0.5, prefilled_s=13.0)
    assert finish(fabric, [slow])[5] == pytest.approx(13.0 + 0.5)
    fast = slow._replace(prefilled_s=3.2)
    assert finish(fabric, [fast])[5] == pytest.approx(4.0)


def test_paths_that_are_not_known_are_spread_by_a_hash_the_same_every_time() -> None:
    choice = RecordedPaths({(TRANSFER, 1): [0, -1], (TRANSFER, 2): [1, 1]})
    assert choice.deal(TRANSFER, 2, 2, 4) == [(1, 2)]
    assert choice.deal(TRANSFER, 1, 2, 4) == choice.deal(TRANSFER, 1, 2, 4)
    assert sum(count for _, count in choice.deal(TRANSFER, 3, 8, 4)) == 8


@pytest.fixture
def connections() -> pd.DataFrame:
    """Two transfers across pods of two stripes each, the first bunched on path 0, and a background flow beside it."""
    up = ["h0>srv0", "srv0>tor0", "tor0>agg0", "agg0>core0"]
    other = ["h0>srv0", "srv0>tor0", "tor0>agg1", "agg1>core2"]
    rows = [
        ("transfer", 1, 0, 0.0, 1.0, 0, up),
        ("transfer", 1, 1, 0.0, 1.0, 0, up),
        ("transfer", 2, 0, 2.0, 3.0, 0, up),
        ("transfer", 2, 1, 2.0, 3.0, 2, other),
        ("background", 1, 0, 2.5, 4.0, 0, up),
    ]
    names = ["owner", "number", "connection", "started_s", "ended_s", "path", "links"]
    return pd.DataFrame(rows, columns=names).assign(tier=3, equal_paths=4, source=0, target=8)


def test_the_spread_counts_every_path_of_a_tier(connections: pd.DataFrame) -> None:
    spread = spread_by_tier(connections)
    assert spread == {
        "3": {"equal_paths": 4, "connections": 5, "by_path": [4, 0, 1, 0], "fullest_over_even": 3.2, "unknown": 0}
    }


def test_collisions_tell_bunched_stripes_from_meetings_with_others(connections: pd.DataFrame) -> None:
    assert collisions(connections) == {"transfers": 2, "bunched": 1, "met": 1, "stripes": 4, "stripes_met": 1}


def test_the_busiest_link_is_the_one_with_most_connections_at_once(connections: pd.DataFrame) -> None:
    assert busiest_links(connections)[0] == {"link": "h0>srv0", "at_once": 3, "total": 5}


def test_two_runs_agree_on_what_both_have_in_common_by_name_not_by_number(connections: pd.DataFrame) -> None:
    one = connections.assign(source_port=[5000, 5001, 5000, 5002, 6000])
    later = one.assign(number=[4, 4, 9, 9, 1], path=[0, 0, 0, 1, 0])  # other requests on the same connections
    assert agreement(one, one)["share"] == 1.0
    assert agreement(one, later) == {"connections": 4, "same_path": 3, "share": 0.75}
    assert agreement(one, later.assign(equal_paths=1))["share"] is None


@pytest.mark.parametrize(
    ("one", "other", "tau"),
    [([1, 2, 3], [10, 20, 30], 1.0), ([1, 2, 3], [3, 2, 1], -1.0), ([1, 2, 3], [1, 3, 2], 1 / 3)],
)
def test_kendalls_tau_counts_pairs_in_the_same_order(one: list[float], other: list[float], tau: float) -> None:
    assert kendall_tau(one, other) == pytest.approx(tau)


def test_kendalls_tau_of_ties_alone_is_not_a_number() -> None:
    assert math.isnan(kendall_tau([1, 1], [1, 2]))


DECIDED = {"status": "completed", "kv_transfer_ms": 1.0, "decode_id": 2, "prefill_id": 1, "cached_tokens": 0, "tier": 1}


def test_the_interval_of_tau_rests_on_stretches_of_a_run_not_on_requests() -> None:
    """One policy is behind only in the first eighth, where all its requests wait: that is one event, not ten."""
    behind_ms = np.where(np.arange(80) < 10, 20.0, -1.0)
    pairs = []
    for policy, analytic_ms, emulated_ms in (("ca", 100.0, 100.0), ("cla", 101.0, 100.0 + behind_ms)):
        spec = make_spec({}, {"policy": policy})
        tables = [pd.DataFrame({"request_id": range(80), "ttft_ms": ms}) for ms in (emulated_ms, analytic_ms)]
        pairs.append(Pair(*[IndependentRun(spec, table.assign(**DECIDED)) for table in tables]))
    ranking = independent_report(pairs)["rankings"][0]
    assert ranking["kendall_tau"] == 1
    assert ranking["kendall_tau_interval"] == [-1, 1]  # over requests it would be [1, 1]


def test_no_ranking_where_no_request_was_completed_by_all() -> None:
    lost = pd.DataFrame({"request_id": [0], "ttft_ms": [np.nan]}).assign(**DECIDED | {"status": "failed"})
    pairs = [Pair(*[IndependentRun(make_spec({}, {"policy": policy}), lost)] * 2) for policy in ("ca", "cla")]
    assert independent_report(pairs)["rankings"] == []


def test_decisions_part_for_the_first_reason_that_applies() -> None:
    joined = pd.DataFrame(
        [(0, 2, 2, 1, 1, 5, 5), (1, 2, 3, 1, 1, 5, 5), (2, 2, 3, 1, 4, 5, 5), (3, 2, 3, 1, 1, 5, 0)],
        columns=["request_id", "decode_id_emulated", "decode_id_analytic", "prefill_id_emulated",
                 "prefill_id_analytic", "cached_tokens_emulated", "cached_tokens_analytic"],
    ).assign(tier_emulated=1, tier_analytic=1)  # fmt: skip
    found = parting(joined)
    assert (found["requests"], found["alike"], found["same_tier"]) == (4, 1, 4)
    assert found["parted_by"] == {"prefill instance": 1, "prefix cache": 1, "network or load": 1}


SLOW = 1.2


def write_emulated(
    out: Path, policy: str = "cla", seed: int = 0, verdict: str = "valid", rate_scale: float = 5000.0
) -> Path:
    """A run whose transfers took 20 % longer than a fluid with frames says: two in the rack, far apart."""
    spec = make_spec({}, {"workload.requests": 2, "policy": policy, "seed": seed, "emulation.rate_scale": rate_scale})
    alone_s = 25e9 * FRAMES / 25e9
    records, decisions, paths = [], [], []
    for number in (0, 1):
        taken_ms = 1e3 * SLOW * alone_s
        records.append(
            RequestRecord(number, 10.0 * number, 100, 5, policy, 0, 2, 1, 0, int(25e9), 1.0, 1.0, taken_ms, 1.0,
                          50.0 + number, 1.0, 9.0, status="completed")
        )  # fmt: skip
        decisions.append(
            {"request_id": number, "prefill_id": 0, "decode_id": 2, "tier": 1, "kv_bytes": int(25e9),
             "source_ports": [5000 + number], "transfer_started_s": 10.0 * number, "paths": [0],
             "decided_s": 10.0 * number, "oracle_age_ms": 100.0}
        )  # fmt: skip
        paths.append(
            {"owner": "transfer", "number": number, "connection": 0, "started_s": 10.0 * number,
             "ended_s": 10.0 * number + taken_ms / 1e3, "bytes": 25e9, "source": 0, "target": 2, "tier": 1,
             "source_port": 5000 + number, "rate_bps": None, "equal_paths": 1, "path": 0,
             "links": ["h0>srv0", "srv0>tor0", "tor0>srv1", "srv1>h2"]}
        )  # fmt: skip
    outcome = Outcome(requests=records, decisions=decisions, paths=paths, duration_s=30.0)
    write_run(out, spec, outcome, {"verdict": verdict, "reasons": []})
    return out


def test_the_replay_error_is_what_packets_took_over_what_the_fluid_says(tmp_path: Path) -> None:
    report, table = compare_folders(write_emulated(tmp_path / "run"), None, invalid=False)
    assert report["replay"]["kv_transfer"]["median_abs_error"] == pytest.approx(SLOW - 1)
    assert report["replay"]["kv_transfer"]["p90_abs_error"] == pytest.approx(SLOW - 1)
    assert 0 < report["replay"]["makespan_error"] < SLOW - 1
    assert report["replay"]["by_load"].keys() == {"alone"}
    (by_policy,) = report["replay"]["by_policy"].values()
    assert by_policy["total_error"] == pytest.approx(SLOW - 1)
    assert report["replay"]["policies_apart"] == 0
    models = [model["model"] for model in report["models"]]
    assert models == ["closed_form", "fluid_ideal", "fluid_paths", "fluid_frames"]
    assert report["models"][-1]["removed"] == pytest.approx(SLOW * (FRAMES - 1))
    assert np.allclose(table["error"], SLOW - 1)


@pytest.mark.parametrize(("frames", "size"), [(0.99, "< 1 frame"), (1.01, "> 2.5 GB")])
def test_what_was_scaled_down_to_less_than_a_frame_is_told_apart(tmp_path: Path, frames: float, size: str) -> None:
    run = write_emulated(tmp_path / "run", rate_scale=25e9 / 1448 / frames)
    report, table = compare_folders(run, None, invalid=False)
    assert table["frames"].tolist() == pytest.approx([frames, frames])
    assert list(report["replay"]["by_size"]) == [size]


def test_compare_prints_json_with_the_contracts_names_and_writes_figures(tmp_path: Path) -> None:
    write_emulated(tmp_path / "run")
    arguments = ["compare", str(tmp_path / "run"), "--json", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    replay = json.loads(done.stdout)["replay"]
    assert {"median_abs_error", "p90_abs_error"} <= replay["kv_transfer"].keys()
    assert "makespan_error" in replay
    assert sorted(place.name for place in (tmp_path / "out").iterdir()) == [
        "comparison.json", "comparison.png", "comparison.svg", "transfers.csv",
    ]  # fmt: skip


def test_what_the_emulation_adds_to_every_transfer_is_a_model_of_its_own(tmp_path: Path) -> None:
    run = write_emulated(tmp_path / "run")
    report, table = compare_folders(run, None, invalid=False)
    assert report["replay"]["less_latency"] is None
    manifest = json.loads((run / "manifest.json").read_text())
    taken_s, fluid_s = table[["taken_s", "fluid_frames"]].iloc[0]
    frame_s = 8 * 1514 * 5000  # of real time on a link of 1 bit/s
    followed_s = 2 * frame_s / 3.6e12 + frame_s / 200e9  # all links of the path but one of its NICs, the slowest
    manifest["evidence"]["idle_transfer_ms"] = {"1": 1e3 * (taken_s - fluid_s - followed_s)}
    (run / "manifest.json").write_text(json.dumps(manifest))
    report, table = compare_folders(run, None, invalid=False)
    assert table["fluid_latency"].to_numpy() == pytest.approx(taken_s)
    nearest = report["replay"]["less_latency"]
    assert (nearest["count"], nearest["p90_abs_error"]) == (2, pytest.approx(0, abs=1e-9))
    assert nearest["total_error"] == pytest.approx(0, abs=1e-9)
    assert [model["model"] for model in report["models"]][-1] == "fluid_latency"
    assert report["replay"]["kv_transfer"]["median_abs_error"] == pytest.approx(SLOW - 1)
    done = CliRunner().invoke(app, ["compare", str(run)], catch_exceptions=False)
    assert "The same, less what the emulation adds to every transfer" in done.stdout


def test_policies_of_a_sweep_are_ranked_in_both_worlds(tmp_path: Path) -> None:
    for policy in ("cla", "round_robin", "netkv_static"):
        write_emulated(tmp_path / "sweep" / "runs" / policy, policy)
    report, _ = compare_folders(tmp_path / "sweep", None, invalid=False)
    ranking = report["independent"]["rankings"][0]
    assert sorted(ranking["policies"]) == ["cla", "netkv_static", "round_robin"]
    assert {gain["baseline"] for gain in ranking["gains"]} == {ranking["policies"][0]}


def test_a_gain_is_shown_three_ways_and_its_bias_is_the_emulations_own(tmp_path: Path) -> None:
    for policy in ("cla", "round_robin"):
        write_emulated(tmp_path / "sweep" / "runs" / policy, policy)
    folder = tmp_path / "sweep" / "runs" / "cla"
    requests = pd.read_parquet(folder / "requests.parquet")
    requests["ttft_ms"] += 50.0
    requests.to_parquet(folder / "requests.parquet")
    report, table = compare_folders(tmp_path / "sweep", None, invalid=False)
    (gain,) = report["gains"]
    assert (gain["policy"], gain["baseline"], gain["refresh_s"]) == ("cla", "round_robin", None)
    base_ms = 50.5  # of requests of 50 and 51 ms
    assert gain["emulated"]["percent"] == pytest.approx(100 * 50 / base_ms)
    longer_ms = 1e3 * (table["taken_s"] - table["fluid_frames"]).iloc[0]
    assert gain["same_decisions"]["percent"] == pytest.approx(100 * 50 / (base_ms - longer_ms))
    assert gain["bias_points"] == pytest.approx(gain["emulated"]["percent"] - gain["same_decisions"]["percent"])
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "sweep")], catch_exceptions=False)
    assert "Gains: mean TTFT against round_robin, %, three ways" in done.stdout


def test_the_requests_of_a_run_with_the_fluid_models_transfers(tmp_path: Path) -> None:
    folder = write_emulated(tmp_path / "sweep" / "runs" / "cla")
    requests = pd.read_parquet(folder / "requests.parquet").assign(run="cla", slo_met=False)
    told = replayed(tmp_path / "sweep", requests).set_index("request_id")
    _, table = compare_folders(folder, None, invalid=False)
    fluid_ms = 1e3 * table.set_index("request_id")["fluid_paths"]
    assert told.loc[fluid_ms.index, "kv_transfer_ms"].tolist() == pytest.approx(fluid_ms.tolist())
    times = ["ttft_ms", "kv_transfer_ms"]
    shorter_ms = (requests.set_index("request_id")[times] - told[times]).loc[fluid_ms.index]
    assert shorter_ms["ttft_ms"].tolist() == pytest.approx(shorter_ms["kv_transfer_ms"].tolist())
    assert (shorter_ms["ttft_ms"] > 0).all()
    assert told["slo_met"].all()  # fifty milliseconds, and the objective is seconds


def test_a_run_that_repeats_another_is_compared_once(tmp_path: Path) -> None:
    for name in ("cla", "cla-control"):
        write_emulated(tmp_path / "sweep" / "runs" / name)
    report, table = compare_folders(tmp_path / "sweep", None, invalid=False)
    assert (report["runs"], sorted(set(table["run"]))) == (1, ["cla"])


def test_paths_prints_the_spread_of_a_run(tmp_path: Path) -> None:
    write_emulated(tmp_path / "run")
    done = CliRunner().invoke(app, ["paths", str(tmp_path / "run"), "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["spread"] == {}
    assert found["collisions"]["transfers"] == 0
    assert found["links"][0]["at_once"] == 1


def test_an_invalid_run_is_compared_only_when_asked_for(tmp_path: Path) -> None:
    folder = write_emulated(tmp_path / "run", verdict="invalid")
    with pytest.raises(StoreError, match="every run is invalid"):
        compare_folders(folder, None, invalid=False)
    assert compare_folders(folder, None, invalid=True)[0]["runs"] == 1


def test_a_run_of_before_a_column_was_there_is_one_line_that_names_it(tmp_path: Path) -> None:
    table = write_emulated(tmp_path / "run") / "paths.parquet"
    pd.read_parquet(table).drop(columns="rate_bps").to_parquet(table)
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "run")])
    assert isinstance(done.exception, StoreError)
    assert str(done.exception).endswith("run: paths.parquet lacks rate_bps: an older run; make it again")


@pytest.mark.parametrize("verb", ["compare", "report"])
def test_a_run_of_a_version_with_other_fields_is_one_line_that_names_the_field(tmp_path: Path, verb: str) -> None:
    manifest = write_emulated(tmp_path / "run") / "manifest.json"
    told = json.loads(manifest.read_text())
    told["spec"]["emulation"]["burst_packets"] = 3
    manifest.write_text(json.dumps(told))
    done = CliRunner().invoke(app, [verb, str(tmp_path / "run")])
    assert isinstance(done.exception, StoreError)
    assert "run: manifest.json: spec: emulation.burst_packets: no such field" in str(done.exception)


def test_folders_that_are_no_runs_or_of_the_wrong_world_are_refused(tmp_path: Path) -> None:
    emulated = write_emulated(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="neither a run nor a sweep"):
        compare_folders(tmp_path / "empty", None, invalid=False)
    with pytest.raises(StoreError, match="no run of the analytic world"):
        compare_folders(emulated, emulated, invalid=False)
    (emulated / "paths.parquet").unlink()
    with pytest.raises(StoreError, match="no record of paths"):
        read_recorded(emulated)


def test_runs_of_another_scenario_are_no_pair() -> None:
    one, other = (make_spec({}, {"seed": seed}) for seed in (0, 1))
    nothing = pd.DataFrame()
    assert pair_up([IndependentRun(one, nothing)], [IndependentRun(other, nothing)]) == []
    assert len(pair_up([IndependentRun(one, nothing)], [IndependentRun(one, nothing)])) == 1
