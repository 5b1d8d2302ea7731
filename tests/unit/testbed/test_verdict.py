"""The verdict of a run: every probe changes it at its limit, and the worst probe is named."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from scenario import Scenario
from serving import Outcome, RequestRecord
from testbed.port_watch import PortCount, dropped, parse_devices
from testbed.verdict import judge
from workers.timer_probe import BIN_S, summary

GOOD: dict[str, Any] = {
    "arrival_lateness_p99_ms": 2.0,
    "timer_lag_p99_ms": 3.0,
    "cpu_starved": 0.1,
    "calibration": [0.97, 0.96],
    "saturated_rate": 0.999,
    "port_overshoot": 0.99,
    "kv_wire_bytes": 50_000_000,
    "background_bytes": 50_000_000,
    "delivered_bytes": 107_700_000,
    "delivered_frames": 108_000,
    "lost_frames": 1683,
    "queue_drops": 613,
    "retransmitted": 1618,
    "softnet_drops": 0,
    "softnet_squeezes": 0,
    "telemetry_error": 0.004,
    "paced_background": 0.98,
    "idle_round_trip_ms": {"1": 0.3, "3": 1.2},
}


def verdict(**changes: Any) -> dict[str, Any]:
    return judge(Scenario(), Outcome(evidence={**GOOD, **changes}))


def test_a_quiet_machine_is_valid_and_has_no_reasons() -> None:
    assert verdict() == {"verdict": "valid", "reasons": [], "worst": None}


@pytest.mark.parametrize(
    ("changes", "found", "worst"),
    [
        ({"calibration": [0.97, 0.8]}, "suspect", "calibration"),
        ({"calibration": [0.16, 0.97]}, "invalid", "calibration"),
        ({"calibration": [0.0, 0.0]}, "invalid", "calibration"),
        ({"saturated_rate": 0.9}, "suspect", "saturated_rate"),
        ({"saturated_rate": 1.06}, "suspect", "saturated_rate"),
        ({"port_overshoot": 1.2}, "invalid", "port_overshoot"),
        ({"transfer_time_error": 0.15}, "suspect", "transfer_time_error"),
        ({"transfer_time_error": -0.15}, "suspect", "transfer_time_error"),
        ({"transfer_time_error": 0.38}, "invalid", "transfer_time_error"),
        ({"delivered_bytes": 80_000_000}, "invalid", "conservation"),
        ({"delivered_bytes": 150_000_000}, "suspect", "conservation"),
        ({"softnet_drops": 3}, "suspect", "softnet_drops"),
        ({"timer_lag_p99_ms": 30.0}, "suspect", "timer_lag"),
        ({"timer_lag_p99_ms": 80.0}, "invalid", "timer_lag"),
        ({"arrival_lateness_p99_ms": 30.0}, "suspect", "arrival_lateness"),
        ({"arrival_lateness_p99_ms": 300.0}, "invalid", "arrival_lateness"),
        ({"cpu_starved": 0.9}, "suspect", "cpu_starved"),
        ({"switch_wait_mean": 0.12}, "suspect", "switch_wait"),
        ({"switch_wait_mean": 0.5}, "invalid", "switch_wait"),
        ({"softnet_squeezes": 2000}, "suspect", "softnet_squeezes"),
        ({"lost_frames": 1683, "queue_drops": 0}, "suspect", "losses"),
        ({"retransmitted": 5000}, "suspect", "retransmissions"),
        ({"retransmitted": 0}, "suspect", "retransmissions"),
        ({"background_failures": ["refused"]}, "suspect", "background_failures"),
        ({"telemetry_error": 0.07}, "suspect", "telemetry_error"),
        ({"telemetry_error": -0.07}, "suspect", "telemetry_error"),
        ({"paced_background": 0.8}, "suspect", "paced_background"),
    ],
)
def test_every_probe_turns_the_verdict_and_is_named(changes: dict[str, Any], found: str, worst: str) -> None:
    judged = verdict(**changes)
    assert (judged["verdict"], judged["worst"], len(judged["reasons"])) == (found, worst, 1)


def test_a_starved_machine_alone_never_makes_a_run_invalid() -> None:
    assert verdict(cpu_starved=1.0)["verdict"] == "suspect"


def test_links_beyond_the_machine_say_what_to_change() -> None:
    assert "raise emulation.rate_scale" in verdict(calibration=[0.16, 0.11])["reasons"][0]


def test_a_reason_says_how_much_the_limit_and_the_remedy() -> None:
    (reason,) = verdict(timer_lag_p99_ms=80.0)["reasons"]
    assert reason == (
        "timers fired 80 ms late (p99; limit 50 ms); stop other work on this machine, or raise emulation.time_dilation"
    )


def test_what_makes_it_invalid_comes_before_what_is_only_suspect() -> None:
    judged = verdict(cpu_starved=1.0, timer_lag_p99_ms=30.0, calibration=[0.5, 0.5])
    assert judged["worst"] == "calibration"
    assert len(judged["reasons"]) == 3


def test_datagrams_and_a_handful_of_bytes_say_nothing_about_conservation() -> None:
    assert verdict(delivered_bytes=80_000_000, background_udp=True)["verdict"] == "valid"
    assert verdict(kv_wire_bytes=100, background_bytes=0, delivered_bytes=0)["verdict"] == "valid"


def test_a_handful_of_frames_may_be_lost_or_retransmitted_without_a_reason() -> None:
    assert verdict(lost_frames=100, queue_drops=0, retransmitted=0)["verdict"] == "valid"
    assert verdict(lost_frames=-2, queue_drops=0, retransmitted=100)["verdict"] == "valid"


@pytest.mark.parametrize(("late", "found"), [(1, "valid"), (2, "valid"), (3, "invalid")])
def test_enough_late_requests_make_another_workload(late: int, found: str) -> None:
    records = [RequestRecord(number, 0.0, 10, 1, "cla", status="completed") for number in range(20)]
    judged = judge(Scenario(), Outcome(requests=records, evidence={**GOOD, "late_requests": late}))
    assert judged["verdict"] == found
    assert judged["worst"] == (None if found == "valid" else "late_requests")


@pytest.mark.parametrize(("age_s", "found"), [(1.1, "valid"), (1.34, "valid"), (1.5, "suspect")])
def test_a_snapshot_older_than_the_specification_allows_is_a_reason(age_s: float, found: str) -> None:
    records = [RequestRecord(n, 0.0, 10, 1, "cla", status="completed", oracle_age_ms=age_s * 1e3) for n in range(20)]
    judged = judge(Scenario(), Outcome(requests=records, evidence=dict(GOOD)))
    assert judged["verdict"] == found


def test_a_failed_request_makes_it_invalid() -> None:
    record = RequestRecord(0, 0.0, 10, 1, "cla", status="failed", error="refused")
    judged = judge(Scenario(), Outcome(requests=[record], evidence=dict(GOOD)))
    assert (judged["verdict"], judged["worst"]) == ("invalid", "failures")


def test_drops_are_those_of_the_shapers_alone() -> None:
    shown = """[{"kind": "noqueue", "dev": "lo", "root": true, "drops": 9},
                {"kind": "htb", "dev": "srv0-eth1", "root": true, "drops": 5},
                {"kind": "pfifo", "dev": "srv0-eth1", "parent": "5:1", "drops": 5},
                {"kind": "htb", "dev": "srv0-eth2", "root": true, "drops": 7}]"""
    assert dropped(shown) == 12


def test_the_timer_probe_summarises_its_lags() -> None:
    lags = Counter(round(0.001 * n / BIN_S) for n in range(101))
    assert summary(lags) == {"sleeps": 101, "lag_p50_ms": 50.0, "lag_p99_ms": 99.0}
    assert summary(Counter())["lag_p99_ms"] == 0.0


def test_interfaces_are_read_by_direction() -> None:
    text = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop ...\n"
        "srv0-eth1: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n"
    )
    assert parse_devices(text) == {"srv0-eth1": (PortCount(2000, 20), PortCount(1000, 10))}


def one_path(link: str) -> dict[str, Any]:
    return {"path": 0, "tier": 2, "links": ["h0>srv0", "srv0>tor0", link], "bytes": 2500e6 * 1448 / 1514}


@pytest.mark.parametrize(("told", "found"), [("tor0>agg0", "valid"), ("tor0>agg1", "suspect")])
def test_multipath_links_that_carried_what_no_path_explains_make_it_suspect(told: str, found: str) -> None:
    evidence = {**GOOD, "rate_scale": 1.0, "link_bytes": {"tor0>agg0": 2500e6, "tor0>agg1": 0, "agg0>tor0": 60e6}}
    judged = judge(Scenario(), Outcome(evidence=evidence, paths=[one_path(told)]))
    assert judged["verdict"] == found
    assert judged["worst"] == (None if found == "valid" else "paths")


def test_a_path_that_is_not_known_explains_its_own_bytes_and_is_named() -> None:
    evidence = {**GOOD, "rate_scale": 1.0, "link_bytes": {"tor0>agg0": 2500e6, "tor0>agg1": 2500e6}}
    unknown = {**one_path("tor0>agg1"), "path": -1, "links": []}
    judged = judge(Scenario(), Outcome(evidence=evidence, paths=[one_path("tor0>agg0"), unknown]))
    assert judged["reasons"] == ["1 of 2 connections have no known path"]
    assert evidence["paths_mismatch"] < 0.01


@pytest.mark.parametrize(("transfer_ms", "found"), [(13.0, "valid"), (11.0, "suspect")])
def test_a_round_trip_counts_against_the_median_transfer(transfer_ms: float, found: str) -> None:
    taken_ms = (transfer_ms, transfer_ms, 9000.0)
    records = [
        RequestRecord(number, 0.0, 10, 1, "cla", status="completed", kv_bytes=1, kv_transfer_ms=took_ms)
        for number, took_ms in enumerate(taken_ms)
    ]
    judged = judge(Scenario(), Outcome(requests=records, evidence=GOOD))
    assert (judged["verdict"], judged["worst"]) == (found, None if found == "valid" else "round_trip")


def a_fault(kind: str, *request_ids: int) -> dict[str, Any]:
    return {"kind": kind, "request_ids": list(request_ids)}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("link_down", {"transfer_time_error": 0.5}),
        ("switch_down", {"delivered_bytes": 60_000_000}),
        ("decode_worker_killed", {"worker_complaints": ["prefill on h0: connection lost"]}),
    ],
)
def test_what_a_fault_of_the_plan_explains_says_nothing_about_the_machine(kind: str, changes: dict[str, Any]) -> None:
    outcome = Outcome(evidence={**GOOD, **changes})
    assert judge(Scenario(), outcome)["verdict"] != "valid"
    outcome.faults = [a_fault(kind)]
    assert judge(Scenario(), outcome)["verdict"] == "valid"


def test_requests_that_a_fault_hit_may_fail_and_no_others() -> None:
    record = RequestRecord(3, 0.0, 10, 10, "cla", error="the decode worker on h2 was killed")
    outcome = Outcome(requests=[record], evidence=dict(GOOD))
    assert judge(Scenario(), outcome)["verdict"] == "invalid"
    outcome.faults = [a_fault("decode_worker_killed", 3)]
    assert judge(Scenario(), outcome)["verdict"] == "valid"
    outcome.faults = [a_fault("decode_worker_killed", 4)]
    assert judge(Scenario(), outcome)["worst"] == "failures"


def test_a_worker_that_no_fault_killed_makes_the_run_invalid() -> None:
    judged = verdict(worker_deaths=["the decode worker on h2 ended by itself"])
    assert (judged["verdict"], judged["worst"]) == ("invalid", "worker_deaths")
