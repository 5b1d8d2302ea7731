"""Whole runs of the analytic world: what must hold of every one of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.running.run_spec import RunSpec
from experiments.running.store import write_run
from scenario import OracleSpec, Scenario, SloSpec, WorkloadSpec, load_requests
from scheduler import POLICIES
from simulator.path_choice import PathChoice
from simulator.simulation import SimulationSpec
from simulator.transport import FluidTransport
from tests.support.analytic_runs import fingerprint, one_pair, play, play_on, run, small
from tests.support.paths import ROOT
from topologies import FabricSpec
from workloads import Request


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_completes_every_request(policy: str) -> None:
    outcome = run(small(policy, slo=SloSpec(ttft_s=1e3)))  # one policy turns away what would miss it
    assert [record.status for record in outcome.requests] == ["completed"] * 80
    waits_ms = {row["request_id"]: row["memory_wait_ms"] for row in outcome.decisions}
    for record in outcome.requests:
        parts_ms = record.queue_ms + record.prefill_ms + record.kv_transfer_ms + record.admission_ms
        parts_ms += waits_ms[record.request_id]
        assert 0.030 * 1e3 <= record.ttft_ms - parts_ms + 1e-6 <= 0.050 * 1e3
        assert record.e2el_ms >= record.ttft_ms
        assert record.output_length == 1 or 30.0 - 1e-9 <= record.tpot_ms <= 50.0
        assert np.isnan(record.decision_us)


@pytest.mark.parametrize("network", ["fluid", "closed_form"])
def test_a_run_repeats_to_the_last_bit(network: str) -> None:
    simulation = SimulationSpec.model_validate({"network": network})
    assert fingerprint(run(small(), simulation)) == fingerprint(run(small(), simulation))
    assert fingerprint(run(small(), simulation)) != fingerprint(run(small(seed=1), simulation))


def test_a_run_repeats_in_a_process_with_other_hashes() -> None:
    program = "from tests.support.analytic_runs import *; print(fingerprint(run(small())))"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert found == {fingerprint(run(small()))}


def test_the_result_files_repeat_byte_by_byte(tmp_path: Path) -> None:
    spec = RunSpec(world="analytic", workload=WorkloadSpec(requests=80))
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        write_run(folder, spec, run(spec.scenario), {"verdict": "valid", "reasons": []})
    for name in ("requests.parquet", "decisions.parquet", "links.parquet", "summary.json"):
        one, other = ((folder / name).read_bytes() for folder in folders)
        assert one == other, name


@pytest.mark.slow
def test_a_workload_as_large_as_the_conversation_trace_is_served_whole() -> None:
    """12,031 requests on 64 GPUs. How long that takes is told by `tests/bench/test_replay_speed.py`."""
    outcome = run(Scenario(workload=WorkloadSpec(requests=12_031)))
    assert sum(record.status == "completed" for record in outcome.requests) == 12_031


def test_the_links_carry_what_was_sent_and_nothing_else() -> None:
    scenario = small("round_robin")
    fabric, roles = scenario.build()
    requests = load_requests(scenario)
    background = scenario.background(fabric, roles, requests[-1].timestamp_s)
    transport = FluidTransport(fabric, PathChoice(0, "hashed"), start_s=-scenario.lead_s)
    outcome = play_on(transport, scenario, requests, background)
    evidence = outcome.evidence
    assert min(evidence["kv_bytes"], evidence["background_bytes"]) > 1e11
    sent_B = evidence["kv_bytes"] + evidence["background_bytes"]
    carried_B = transport.link_carried_B()
    for ends in (lambda link: link.source.startswith("h"), lambda link: link.target.startswith("h")):
        assert sum(carried_B[link.index] for link in fabric.links if ends(link)) == pytest.approx(sent_B, rel=1e-9)
    rated = max(row["utilisation"] for row in outcome.links)
    assert 0.5 < rated <= 1


@pytest.mark.parametrize(
    ("refresh_s", "poll_s"), [(1.0, 0.1), (0.3, 0.1), (0.25, 0.1), (0.05, 0.1), (7.0, 2.0), (60.0, 0.1)]
)
def test_a_sample_is_never_older_than_its_refresh_and_its_poll(refresh_s: float, poll_s: float) -> None:
    outcome = run(small(oracle=OracleSpec(refresh_s=refresh_s, poll_s=poll_s)))
    ages_s = np.array([record.oracle_age_ms for record in outcome.requests]) / 1e3
    assert ages_s.min() >= 0
    assert ages_s.max() <= refresh_s + poll_s + 1e-9
    if refresh_s < 30:
        assert ages_s.max() > 0.7 * refresh_s


def test_an_exact_oracle_is_as_old_as_its_refresh_and_a_static_one_has_no_age() -> None:
    exact = run(small(oracle=OracleSpec(source="exact", refresh_s=0.5)))
    assert 0.4e3 < max(record.oracle_age_ms for record in exact.requests) <= 0.5e3 + 1e-6
    static = run(small(oracle=OracleSpec(source="static")))
    assert {record.oracle_age_ms for record in static.requests} == {np.inf}
    assert {decision["fallback"] for decision in static.decisions} == {"no telemetry"}


def test_gaps_are_counted_not_listed() -> None:
    outcome = run(small())
    assert sum(outcome.token_gap_counts) == sum(record.output_length - 1 for record in outcome.requests)
    mean_ms = np.average(outcome.token_gaps_ms, weights=outcome.token_gap_counts)
    spoke = [record for record in outcome.requests if record.output_length > 1]
    of_requests = sum(record.tpot_ms * (record.output_length - 1) for record in spoke)
    assert mean_ms == pytest.approx(of_requests / sum(outcome.token_gap_counts))
    assert len(outcome.token_gaps_ms) <= 64


def test_link_rows_stay_within_their_bound() -> None:
    wide = small(fabric=FabricSpec(pods=4), workload=WorkloadSpec(requests=60, rate_rps=0.1))
    outcome = run(wide, SimulationSpec(link_sample_s=0.1, most_link_rows=2000))
    assert 1000 < len(outcome.links) <= 2200
    assert list(outcome.links[0]) == ["time_s", "link", "utilisation", "bytes"]


def test_latency_of_decisions_is_measured_apart() -> None:
    measured = run(small()).evidence["measured"]
    assert measured["decision_us"]["count"] == 80
    assert 0 < measured["decision_us"]["p50"] <= measured["decision_us"]["p99"]


def test_a_run_counts_in_the_blocks_of_its_requests() -> None:
    requests = [Request(k, 100.0 * k, 40, 2, (0, 1, 10 + k), 16) for k in range(2)]
    assert [record.cached_tokens for record in play(one_pair(), requests).requests] == [0, 32]
