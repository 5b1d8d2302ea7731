"""What real packets cost on this machine: bring-up, overhead of a run, and how both grow with hosts, flows and rate.

`sudo .venv/bin/pytest tests/bench/test_emulation_cost.py -q -s` prints the figures; each is held against another of the
same session, because no two machines are alike. Goodput beside iperf3's is `test_workers_goodput`'s.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from experiments.running.run_spec import RunSpec, make_spec
from testbed.emulated_world import EmulatedWorld
from testbed.send_buffer import SendBufferLease
from testbed.verdict import judge
from tests.support.bench_ratios import Ratios
from tests.support.live.bring_up import bring_up_s

FABRICS: dict[int, dict[str, Any]] = {
    16: {},
    64: {"fabric.racks_per_pod": 4, "fabric.servers_per_rack": 4},
    128: {"fabric.pods": 4, "fabric.racks_per_pod": 4, "fabric.servers_per_rack": 4},
}
"""By number of hosts; the last has 92 switches."""

SHORT = {
    "policy": "cla",
    "workload.requests": 32,
    "workload.speedup": 2.0,
    "workload.max_output_tokens": 4,
    "workload.max_input_tokens": 6000,
    "emulation.bringup_deadline_s": 300.0,
}
HOT = {"congestion.kind": "onoff", "congestion.mean_on_s": 60.0, "congestion.mean_off_s": 0.1}


@dataclass(frozen=True)
class Cost:
    """One run: seconds of bring-up, of the run and of the replay in it, processors that its own processes kept busy,
    verdict and evidence."""

    bringup_s: float
    run_s: float
    replaying_s: float
    own_cpus: float
    verdict: str
    reasons: tuple[str, ...]
    evidence: dict[str, Any]

    def __str__(self) -> str:
        return (
            f"bring-up {self.bringup_s:6.1f} s, run {self.run_s:5.1f} s of which {self.replaying_s:5.1f} replaying,"
            f" {self.own_cpus:.2f} processors, switches waited {self.evidence['switch_wait_mean']:.1%},"
            f" {self.verdict}{': ' + self.reasons[0] if self.reasons else ''}"
        )


@pytest.fixture(scope="module", autouse=True)
def root() -> None:
    if os.geteuid() != 0:
        pytest.fail("needs root for network namespaces", pytrace=False)


@cache
def cost(hosts: int, **changes: Any) -> Cost:
    """Of one short run on a fabric of its own; `__` stands for the dot in a field's name. Each is made once."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    spec: RunSpec = make_spec({}, {**SHORT, "congestion.kind": "none", **FABRICS[hosts], **dotted})
    with EmulatedWorld(spec.scenario, spec.emulation) as world:
        outcome = world.run(spec.scenario)
    judged = judge(spec.scenario, outcome)
    evidence = outcome.evidence
    return Cost(
        bringup_s=evidence["bringup_s"],
        run_s=evidence["wall_s"]["run"],
        replaying_s=evidence["wall_s"]["replaying"],
        own_cpus=evidence["own_cpus"],
        verdict=judged["verdict"],
        reasons=tuple(judged["reasons"]),
        evidence=evidence,
    )


def hot(flows: int) -> dict[str, Any]:
    return {name.replace(".", "__"): value for name, value in {**HOT, "congestion.flows": flows}.items()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("hosts", FABRICS)
def test_bring_up_and_idle_cost_as_the_fabric_grows(hosts: int) -> None:
    """The same requests on more hosts: what more processors are busy with is polling and keeping hosts alive."""
    small, found = cost(16), cost(hosts)
    print(f"\n{hosts:4} hosts: {found}")
    print(
        f"      bring-up {found.bringup_s / small.bringup_s:.1f} x that of 16 hosts, {found.bringup_s / hosts:.2f} s a"
        f" host; processors {found.own_cpus / small.own_cpus:.2f} x; run {found.run_s / small.run_s:.2f} x",
    )
    # A fair port is a class for each queue, and for each the kernel walks a list of all that there are.
    assert found.bringup_s / small.bringup_s <= (hosts / 16) ** 2


@pytest.mark.timeout(900)
@pytest.mark.parametrize("hosts", [16, 64])
def test_a_bring_up_beside_plain_mininets(ratios: Ratios, hosts: int) -> None:
    """Ours has up to 259 HTB classes a port where Mininet's TCLink has one."""
    with SendBufferLease():
        turns = [{kind: bring_up_s(kind, hosts, "user") for kind in ("ours", "TCLink")} for _ in range(3)]
    took = {kind: [turn[kind] for turn in turns] for kind in turns[0]}
    found = ratios.note(f"a bring-up of {hosts} hosts", "plain Mininet's", took["TCLink"], took["ours"])
    print(f"\n{hosts:4} hosts: {found.median:.2f} times as fast as plain Mininet with TCLink")
    assert found.median > 0.5


@pytest.mark.parametrize("flows", [8, 16, 32])
def test_cost_as_background_flows_grow(flows: int) -> None:
    none, found = cost(16), cost(16, **hot(flows))
    print(f"\n{flows:4} greedy flows: {found}")
    print(
        f"      processors {found.own_cpus / none.own_cpus:.2f} x those without; run {found.run_s / none.run_s:.2f} x"
    )
    assert found.evidence["delivered_bytes"] > none.evidence["delivered_bytes"]


@pytest.mark.parametrize("rate_scale", [5000, 2500, 1250])
def test_cost_as_the_rate_grows(rate_scale: int) -> None:
    slow, found = cost(16, **hot(8), emulation__rate_scale=5000), cost(16, **hot(8), emulation__rate_scale=rate_scale)
    print(f"\nlinks 1/{rate_scale}: {found}")
    frames = found.evidence["delivered_frames"] / slow.evidence["delivered_frames"]
    print(f"      {frames:.2f} x the frames of 1/5000, processors {found.own_cpus / slow.own_cpus:.2f} x")
    assert frames > 0.5 * 5000 / rate_scale


def test_overhead_of_a_run() -> None:
    """What a run takes beside its replay, and how late the replay itself is."""
    found = cost(16)
    beside_s = found.run_s - found.replaying_s
    late_ms = found.evidence["arrival_lateness_p99_ms"]
    print(f"\nbeside the replay: {beside_s:.1f} s; requests issued {late_ms:.1f} ms late (p99)")
    assert beside_s < 10
    assert late_ms < 50


@pytest.mark.timeout(900)
def test_the_largest_fabric_with_a_valid_verdict() -> None:
    verdicts = {hosts: cost(hosts).verdict for hosts in FABRICS}
    valid = [hosts for hosts, verdict in verdicts.items() if verdict == "valid"]
    print(f"\nverdicts by hosts: {verdicts}; the largest that is valid: {max(valid, default=None)}")
    assert 16 in valid
