"""Decisions explained: one whose figures are worked out by hand, and runs of each family of policies rebuilt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.explaining import Explanation, as_json, explain_requests, in_sentences, summarise_explanations
from experiments.running import SNAPSHOTS, RunSpec, StoreError, read_table
from experiments.running.run_spec import make_spec
from scheduler import Dispatcher, NetworkSample
from tests.support.made_runs import spec
from tests.support.run_histories import Records, analytic_folder, as_emulated

pytestmark = pytest.mark.xdist_group("explaining")
"""On one processor: its runs are made once."""

CLOSEST = """
class Closest:
    def select(self, request, candidates, view):
        return candidates.best(candidates.decode_id)
"""
"""A policy that sends everything to one instance, by a figure that is not a time."""

TRACE = [
    {"timestamp": 0, "input_length": 1024, "output_length": 3, "hash_ids": [1, 2]},
    {"timestamp": 50, "input_length": 512, "output_length": 3, "hash_ids": [3]},
]

WIDEST = 80


def two_candidates(folder: Path, policy: str) -> Path:
    """A run on one rack of four servers with an instance each: h0 and h2 prefill, h1 and h3 decode.

    Request 0, of 1,024 tokens, is prefilled at h0 until 0.078 s; request 1, of 512, arrives before that and is
    prefilled at h2 until 0.050 + 0.057 = 0.107 s. The seed is one whose first tie goes to h1. A token is 1 MB of KV, a
    NIC has 128 MB/s, four hops take 40 ms, a step 0.5 s. Nothing else moves.
    """
    trace = folder / "trace.jsonl"
    trace.write_text("".join(json.dumps(row) + "\n" for row in TRACE))
    made = make_spec(
        {
            "world": "analytic",
            "policy": policy,
            "seed": 3,
            "fabric": {
                **{"pods": 1, "racks_per_pod": 1, "servers_per_rack": 4, "gpus_per_instance": 8},
                **{"nic_rate_bps": 1.024e9, "hop_latency_s": 0.01},
            },
            "model": {"kv_bytes_per_token": 1e6, "prefill": "table", "step_table_s": [[1, 0.5]]},
            "oracle": {"source": "static"},
            "congestion": {"kind": "none"},
            "workload": {"trace": str(trace), "time_unit": "ms", "arrivals": "raw"},
        },
        {},
    )
    return analytic_folder(made, folder / "run")


def test_two_candidates_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Request 1 follows request 0 to h1, which is worth exactly 4 s less than h3."""
    (tmp_path / "closest_policy.py").write_text(CLOSEST)
    monkeypatch.chdir(tmp_path)
    (told,) = explain_requests(two_candidates(tmp_path, "closest_policy:Closest"), [1])
    h1, h3 = told.candidates
    assert (told.prefill_id, told.chosen_id, told.best.decode_id) == (2, 1, 3)
    assert told.decided_s == pytest.approx(0.107)
    # 512 MB at half a NIC, since request 0 is on its way to h1, and at a whole one to h3
    assert (h1.transfer_ms, h3.transfer_ms) == pytest.approx((8000.0, 4000.0))
    assert h1.latency_ms == h3.latency_ms == pytest.approx(40.0)
    assert (h1.admission_ms, h1.first_step_ms, h1.predicted_ms) == pytest.approx((0.0, 500.0, 8540.0))
    # of its 1,024 MB request 0 still has 508 MB when request 1 is there: both batches are empty
    assert (h1.true_transfer_ms, h1.true_admission_ms, h1.true_first_step_ms) == pytest.approx((8040.0, 0.0, 500.0))
    assert (h3.true_transfer_ms, h3.true_admission_ms, h3.true_first_step_ms) == pytest.approx((4040.0, 0.0, 500.0))
    assert told.regret_ms == pytest.approx(4000.0)
    assert told.measured_kv_transfer_ms == pytest.approx(8040.0)
    assert (told.runner_up, told.lead) == (h3, 2.0)
    assert not told.own_terms
    said = in_sentences(told)
    assert "request 1, 512 tokens prefilled at instance 2: closest_policy:Closest sent it to instance 1" in said
    assert "Why: it has the least figure, 1; the runner-up is instance 3 (same rack), worse by 2." in said
    assert "Telemetry: no snapshot." in said
    assert "Regret: 4000.0 ms. With the same background and the same other transfers instance 3 (same rack)" in said
    assert "Differs" not in said


def test_a_policy_with_a_cost_model_says_by_how_much_in_time(tmp_path: Path) -> None:
    """NetKV-Static counts request 0 and takes h3: 4 s ahead, and right."""
    (told,) = explain_requests(two_candidates(tmp_path, "netkv_static"), [1])
    assert (told.chosen_id, told.regret_ms, told.own_terms) == (3, 0.0, True)
    assert (told.chosen.figure, told.lead) == pytest.approx((4.540, 4.0))
    said = in_sentences(told)
    assert "Why: it has the least cost, 4540.00 ms; the runner-up is instance 1 (same rack), worse by 4000 ms." in said
    assert "Regret: none." in said


def test_a_tie_is_told_as_one(tmp_path: Path) -> None:
    (told,) = explain_requests(two_candidates(tmp_path, "netkv_static"), [0])
    assert (told.chosen_id, told.lead) == (1, 0.0)
    assert "as has instance 3 (same rack); the tie went by tier and load, then at random." in in_sentences(told)


def small(policy: str, **changes: Any) -> RunSpec:
    """A minute of requests beside traffic that moves."""
    beside = {"congestion__kind": "onoff", "oracle__refresh_s": 2.0, "serving__batch_slots": 4}
    beside |= {"serving__kv_admission": "after_transfer"}  # waits for memory are refused, and `ca` has some
    return spec(policy=policy, workload__requests=60, workload__speedup=3, **beside, **changes)


FAMILIES = (
    *("round_robin", "random", "least_loaded", "power_of_two", "ca", "cla_star", "llmd_topology", "dynamo_qos"),
    *("aibrix_decode", "conductor", "netkv_topo_only", "netkv_static", "netkv_full", "netkv_fresh", "paper_full"),
)


@pytest.mark.parametrize("policy", FAMILIES)
def test_an_analytic_run_is_rebuilt_to_the_last_digit(policy: str, tmp_path: Path) -> None:
    """Every choice and prediction again; and the true cost of the instance chosen is what the run had."""
    folder = analytic_folder(small(policy), tmp_path / "run")
    explanations = explain_requests(folder, None, 1.0)
    requests = read_table(folder, "requests").set_index("request_id")
    assert len(explanations) == len(read_table(folder, "decisions"))
    for told in explanations:
        row = requests.loc[told.request_id]
        from_decision_ms = row["ttft_ms"] - row["queue_ms"] - row["prefill_ms"]
        assert told.same_choice
        assert told.prediction_off_ms == 0
        assert told.chosen.true_ms == pytest.approx(from_decision_ms, rel=1e-9, abs=1e-6)
        assert told.chosen.true_admission_ms == pytest.approx(row["admission_ms"], abs=1e-6)
        assert told.regret_ms >= 0


def test_only_what_compares_has_a_runner_up(tmp_path: Path) -> None:
    (told,) = explain_requests(analytic_folder(small("round_robin"), tmp_path / "run"), [5])
    assert told.runner_up is None
    assert "Why: round_robin compares no figures of the instances. The predictions are what its view" in in_sentences(
        told
    )
    assert as_json(told)["runner_up_id"] is None


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return analytic_folder(small("netkv_full"), tmp_path_factory.mktemp("full") / "run")


def emulated(policy: str, folder: Path, **changes: Any) -> Path:
    """An analytic run as the emulated world would have written it: nothing of its traffic is planned again."""
    records = Records.of(analytic_folder(small(policy, **changes), folder / "analytic"))
    as_emulated(records)
    return records.write(folder / "run")


def test_an_emulated_run_is_rebuilt_from_its_records(tmp_path: Path) -> None:
    """With a log of every poll: choices and predictions are the same again where the log has the snapshot."""
    explanations = explain_requests(emulated("netkv_full", tmp_path, simulation__link_sample_s=0.1), None, 1.0)
    same = [told for told in explanations if told.telemetry_off_s < 1e-6]
    assert len(explanations) == 60
    assert len(same) > 40
    assert [told.request_id for told in same if not told.same_choice] == []
    assert [told.prediction_off_ms for told in same] == pytest.approx([0.0] * len(same), abs=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_with_its_snapshots_on_record_an_emulated_run_is_rebuilt_whole(
    noise: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[float, NetworkSample]] = []
    offer = Dispatcher.offer_sample

    def note(self: Dispatcher, sample: NetworkSample, now_s: float, refused: str = "") -> None:
        read.append((now_s, sample))
        offer(self, sample, now_s, refused)

    monkeypatch.setattr(Dispatcher, "offer_sample", note)
    folder = emulated("netkv_full", tmp_path, oracle__noise=noise)
    monkeypatch.undo()
    names = [link.name for link in small("netkv_full").build()[0].links]
    rows = [(now_s, one.sampled_s, names[at], used) for now_s, one in read for at, used in enumerate(one.utilisation)]
    columns = ["read_s", "sampled_s", "link", "utilisation"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / f"{SNAPSHOTS}.parquet")
    explanations = explain_requests(folder, None, 1.0)
    assert [told.request_id for told in explanations if not told.same_choice] == []
    assert [told.prediction_off_ms for told in explanations] == pytest.approx([0.0] * 60, abs=1e-3)
    assert "Telemetry is rebuilt" not in in_sentences(explanations[30])


def test_what_cannot_be_rebuilt_is_said(tmp_path: Path) -> None:
    """With a log every 5 s and a snapshot every 2 s."""
    explanations = explain_requests(emulated("netkv_full", tmp_path), None, 1.0)
    away = max(explanations, key=lambda told: told.telemetry_off_s)
    assert "Telemetry is rebuilt from the nearest sample on record, " in in_sentences(away)
    other = next(told for told in explanations if abs(told.prediction_off_ms) > 1)
    assert f"Differs: the KV transfer was predicted to take {other.recorded_kv_transfer_ms:.1f} ms" in in_sentences(
        other
    )


def test_load_and_caches_of_an_emulated_run_are_those_of_its_records(tmp_path: Path) -> None:
    """A policy that reads no telemetry chooses the same again, every time."""
    explanations = explain_requests(emulated("netkv_static", tmp_path), None, 1.0)
    assert [told.request_id for told in explanations if not told.same_choice] == []
    cached = read_table(tmp_path / "run", "requests").set_index("request_id")["cached_tokens"]
    assert [told.chosen.cached_tokens for told in explanations] == [cached[told.request_id] for told in explanations]


def test_a_sample_is_the_same_every_time_and_what_it_says_adds_up(full: Path) -> None:
    first, again = explain_requests(full, None, 0.2), explain_requests(full, None, 0.2)
    assert [told.request_id for told in first] == [told.request_id for told in again]
    assert len(first) == 12
    found = summarise_explanations(first, 60, 10.0)
    assert found["mean_regret_ms"] == pytest.approx(sum(told.regret_ms for told in first) / 12)
    assert found["over"] == sum(told.regret_ms > 10 for told in first) / 12
    assert sum(rows["explained"] for rows in found["by_tier"].values()) == 12
    assert (found["same_choice"], found["same_prediction"]) == (12, 12)


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["explain", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_verb_prints_a_table_that_fits_a_terminal(full: Path) -> None:
    one, many = said(str(full), "30"), said(str(full))
    assert one.startswith("run: request 30, ")
    assert [line for line in one.splitlines() if line[:4].strip("* ").isdigit() and len(line) > WIDEST] == []
    assert max(map(len, many.splitlines())) <= WIDEST
    assert "3 of 60 decisions explained" in many


def test_the_verb_explains_each_decision_of_a_sample_in_words(full: Path) -> None:
    many, each = said(str(full)), said(str(full), "--each")
    explained = explain_requests(full, None)
    assert each == "".join(f"{in_sentences(one)}\n\n" for one in explained) + many
    assert len(explained) == 3


def test_the_verb_prints_json(full: Path) -> None:
    one = json.loads(said(str(full), "30", "--json"))
    assert one["request_id"] == 30
    assert len(one["candidates"]) == 8
    many = json.loads(said(str(full), "--sample", "10", "--over", "0", "--json"))
    assert many["explained"] == len(many["requests"]) == 6
    regrets = [request["regret_ms"] for request in many["requests"]]
    assert many["over"] == sum(regret > 0 for regret in regrets) / 6


def test_what_was_not_decided_is_refused(full: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no request 60; they are numbered from 0 to 59"):
        explain_requests(full, [60])
    records = Records.of(full)
    records.put(7, status="rejected", error="no room", decode_id=-1)
    records.decisions = records.decisions[records.decisions["request_id"] != 7]
    with pytest.raises(StoreError, match="request 7 was sent nowhere: no room"):
        explain_requests(records.write(tmp_path / "rejected"), [7])
    (tmp_path / "sweep" / "runs").mkdir(parents=True)
    with pytest.raises(StoreError, match="is a sweep; name one of its runs"):
        explain_requests(tmp_path / "sweep", [0])


def test_a_regret_is_never_negative_and_the_chosen_wins_ties(full: Path) -> None:
    explanations: list[Explanation] = explain_requests(full, None, 0.5)
    assert all(told.best.true_ms <= told.chosen.true_ms for told in explanations)
    assert all(told.best is told.chosen for told in explanations if told.regret_ms < 1e-3)
