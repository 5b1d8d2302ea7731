"""What is measured on a fabric that is up: each function takes the lab and returns plain numbers for tests to judge."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from testbed.fabric_up import ORACLE_SOCKET
from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.port_watch import PortWatch
from testbed.sandbox import run
from tests.support.live.datapath import datapaths, ecn, round_trips
from tests.support.live.lab import SINK_PORT, Counts, Lab, wait_until
from tests.support.live.machine_joint import clocks, joint, load_on_a_path
from tests.support.live.shaper import fast_shaper
from topologies import Level
from topologies.mininet import interface_of, meter_of
from workers.wire import ACK_BYTES

Numbers = dict[str, Any]

SETTLE_S = 2.0
WINDOW_S = 5.0
LOADED_LINK = "srv0>tor0"
OBSERVED_S = 2.5
WIRE_EFFICIENCY = 1448 / 1514
"""Payload of a full frame that carries TCP's timestamps, and the frame, bytes."""

MOST_BYTES = 100_000_000
ENOUGH = 0.94
ATTEMPTS = 4
"""Other work on a small machine takes the CPU from vswitchd at times: a transfer is repeated, and the best counts."""


def rates(lab: Lab) -> Numbers:
    """Asked and shown rate and ceiling of every interface, bit/s; tc has no JSON for classes of HTB."""
    found = {}
    for link in lab.fabric.links:
        on_switch = link.source in lab.fabric.switch_by_name
        shaper = (meter_of(link, lab.fabric, lab.up.split) if on_switch else None) or interface_of(link)
        said = run(*lab.up.enter(link.source), "tc", "class", "show", "dev", shaper)
        whole = [line for line in said.splitlines() if " root " in line]  # not the queues below them
        found[interface_of(link)] = {
            "asked": link.capacity_bps / lab.up.link_divisor,
            "shown": [_bits(re.search(rf" {word} (\S+)bit", line)) for line in whole for word in ("rate", "ceil")],
            "classes": len(whole) / (2 if lab.up.spec.queue == "fair" else 1),  # of data, and of acknowledgements
        }
    return found


def _bits(shown: re.Match[str] | None) -> float:
    """A rate as tc prints it: 20M is 2e7; none at all is 0."""
    if shown is None:
        return 0.0
    digits, unit = re.fullmatch(r"(\d+)([KMG]?)", shown[1]).groups()  # type: ignore[union-attr]
    return float(float(digits) * 1000 ** " KMG".index(unit or " "))


def reach(lab: Lab) -> Numbers:
    """The addresses that every instance could open a TCP connection to."""
    instances = range(len(lab.fabric.instances))
    for instance in instances:
        lab.worker("background", instance)
    program = str(Path(__file__).with_name("connector.py"))
    return {
        lab.up.address(source): lab.up.run_in(
            source,
            *(sys.executable, "-I", "-S", program, str(SINK_PORT)),
            *(lab.up.address(target) for target in instances if target != source),
        ).split()
        for source in instances
    }


def transfer(lab: Lab, tier: int, stripes: int, size_bytes: int) -> Numbers:
    """One KV transfer on an idle fabric: what the workers counted, and what the links carried."""
    source, target = lab.pair_of_tier(tier)
    lab.worker("prefill", source), lab.worker("decode", target)
    lab.up.run_in(source, "ping", "-c", "1", "-W", "2", lab.up.address(target))  # now both know the other's MAC
    retransmitted = _retransmitted(lab, source)

    def send() -> Numbers:
        sent, received = lab.end_transfer(source, target, lab.start_transfer(source, target, size_bytes, stripes))
        return {
            "received_bytes": received["bytes"],
            "wire_bytes": sent["wire_bytes"],
            "seconds": (received["at_s"] - lab.up.ahead_s(target)) - (sent["started_s"] - lab.up.ahead_s(source)),
        }

    counts, numbers = lab.moved(send)
    links = lab.fabric.links
    paths = [[links[index].name for index in path] for path in lab.fabric.paths(source, target)]
    rate_bps = {link.name: link.capacity_bps / lab.up.link_divisor for link in links}
    return {
        **numbers,
        "tier": lab.fabric.tier(source, target),
        "stripes": stripes,
        "bytes": size_bytes,
        "rate_bps": lab.path_rate_bps(source, target),
        "burst_ms": lab.up.spec.burst_ms,
        "ack_bytes": stripes * ACK_BYTES,
        "retransmitted": _retransmitted(lab, source) - retransmitted,
        "paths": paths,
        "carriers": [name for name, count in counts.items() if count.bytes > size_bytes],
        "busiest_s": max(count.bytes * 8 / rate_bps[name] for name, count in counts.items()),
        "delivered": vars(counts[paths[0][-1]]),
        "returned": vars(counts[links[lab.fabric.paths(target, source)[0][-1]].name]),
    }


def transfers(lab: Lab) -> list[Numbers]:
    """A blob at every tier in one stripe, and at tiers 1 and 3 in four; the best of a few attempts."""
    return [
        best_transfer(lab, tier, stripes, _bytes_for(lab, tier, seconds))
        for tier, stripes, seconds in ((0, 1, 0.06), (1, 1, 2), (2, 1, 2), (3, 1, 4), (1, 4, 2), (3, 4, 4))
    ]


def cross_pod_transfer(lab: Lab) -> Numbers:
    """A blob across the pods in one stripe, the best of a few attempts."""
    return best_transfer(lab, 3, 1, _bytes_for(lab, 3, 4))


def small_transfers(lab: Lab) -> list[Numbers]:
    """A short blob each within a rack and across the pods, once."""
    return [transfer(lab, tier, 1, _bytes_for(lab, tier, 1)) for tier in (1, 3)]


def _bytes_for(lab: Lab, tier: int, seconds: float) -> int:
    """What keeps an idle path of a tier busy for so long."""
    return min(round(lab.path_rate_bps(*lab.pair_of_tier(tier)) / 8 * seconds), MOST_BYTES)


def best_transfer(lab: Lab, tier: int, stripes: int, size_bytes: int) -> Numbers:
    """The attempt that came closest to filling its busiest link; further ones only where that was not nearly full."""
    attempts: list[Numbers] = []
    while len(attempts) < (ATTEMPTS if tier else 1):
        attempts.append(transfer(lab, tier, stripes, size_bytes))
        if _filled(attempts[-1]) * WIRE_EFFICIENCY >= ENOUGH:
            break
    return {**max(attempts, key=lambda attempt: _filled(dict(attempt))), "attempts": len(attempts)}


def _filled(transfer: Numbers) -> float:
    """How busy the busiest link was, of the time that the transfer took."""
    share: float = transfer["busiest_s"] / transfer["seconds"]
    return share


def _retransmitted(lab: Lab, instance: int) -> int:
    """Segments that the instance's TCP has retransmitted: RetransSegs, RFC 4022."""
    names, values = (line.split() for line in lab.up.run_in(instance, "grep", "^Tcp:", "/proc/net/snmp").splitlines())
    return int(values[names.index("RetransSegs")])


def cores(lab: Lab) -> Numbers:
    """The frames that every core forwarded of many connections across the pods."""
    before = lab.counts()
    flows = [(source, lab.start_flow(source, target, connections=16)) for source, target in lab.cross_pod_pairs()]
    time.sleep(SETTLE_S)
    for source, flow in flows:
        lab.stop_flow(source, flow)
    after = lab.counts()
    return {core.name: _forwarded(lab, core.name, before, after) for core in lab.fabric.switches_at(Level.CORE)}


def bisection(lab: Lab) -> Numbers:
    """Eight pairs across the pods, four greedy flows each: goodput, and the frames that every core forwarded."""
    for source, target in lab.cross_pod_pairs():
        lab.worker("background", source), lab.worker("background", target)
    flows = [(source, lab.start_flow(source, target, connections=4)) for source, target in lab.cross_pod_pairs()]
    time.sleep(SETTLE_S)
    before, started_s = _received(lab), time.monotonic()
    counts_before = lab.counts()
    time.sleep(WINDOW_S)
    after, ended_s = _received(lab), time.monotonic()
    counts_after = lab.counts()
    ports = [lab.stop_flow(source, flow)["source_ports"] for source, flow in flows]
    links = lab.fabric.links
    up_links = [link for link in links if link.source.startswith("agg") and link.target.startswith("core")]
    capacity_bps = sum(link.capacity_bps for link in up_links) / lab.up.link_divisor / lab.fabric.spec.pods
    return {
        "goodput_bps": [(b - a) * 8 / (ended_s - started_s) for a, b in zip(before, after, strict=True)],
        "bisection_bps": capacity_bps,
        "packets_of_core": {
            core.name: _forwarded(lab, core.name, counts_before, counts_after)
            for core in lab.fabric.switches_at(Level.CORE)
        },
        "source_ports": ports,
    }


def _received(lab: Lab) -> list[int]:
    return [lab.received_bytes(target) for _, target in lab.cross_pod_pairs()]


def _forwarded(lab: Lab, switch: str, before: Counts, after: Counts) -> int:
    return sum((after[link.name] - before[link.name]).packets for link in lab.fabric.links_from[switch])


def isolation(lab: Lab) -> Numbers:
    """Sixty pings of an idle pair while another pair's port is offered four times its rate."""
    source, target = lab.pair_of_tier(3)
    idle, peer = 4, 6
    lab.up.run_in(idle, "ping", "-c", "1", "-W", "2", lab.up.address(peer))
    before = lab.counts()
    flow = lab.start_flow(source, target, protocol="udp", rate_bps=3.5 * lab.path_rate_bps(source, target))
    time.sleep(SETTLE_S)
    said = lab.up.run_in(idle, "sh", "-c", f"ping -q -c 60 -i 0.05 -W 2 {lab.up.address(peer)} || true")
    sent = lab.stop_flow(source, flow)
    after = lab.counts()
    found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert found, said
    offered_bps = sent["bytes"] * 8 / (sent["at_s"] - sent["started_s"])
    shares = [
        (after[link.name] - before[link.name]).bytes * 8 * lab.up.link_divisor / link.capacity_bps
        for link in lab.fabric.links_from["agg0"] + lab.fabric.links_from["agg1"]
    ]
    return {
        "sent": int(found[1]),
        "received": int(found[2]),
        "offered_bps": offered_bps,
        "busiest_port_utilisation": max(shares) / (sent["at_s"] - sent["started_s"]),
    }


def overload(lab: Lab) -> Numbers:
    """A server's uplink offered more than it carries by two hosts, one connection against three: what crosses it, of
    its rate, and the payload that each host's peer received."""
    link = lab.fabric.link_by_name[LOADED_LINK]
    pairs = {1: (0, 2), 3: (1, 3)}
    flows = {pair: lab.start_flow(*pair, connections=count) for count, pair in pairs.items()}
    watch = PortWatch(lab.fabric, lab.up.link_divisor, lab.up.spec.burst_ms / 1e3, lab.up.split)
    time.sleep(SETTLE_S)
    began_s, before = time.monotonic(), watch.read()[LOADED_LINK].bytes
    received = {count: lab.received_bytes(target) for count, (_, target) in pairs.items()}
    time.sleep(WINDOW_S)
    took_s, carried = time.monotonic() - began_s, watch.read()[LOADED_LINK].bytes - before
    shares = {count: lab.received_bytes(target) - received[count] for count, (_, target) in pairs.items()}
    for (source, _), flow in flows.items():
        lab.stop_flow(source, flow)
    return {
        "carried_of_rate": carried * 8 * lab.up.link_divisor / link.capacity_bps / took_s,
        "received_bytes": shares,
    }


def both_ways(lab: Lab) -> Numbers:
    """A server's uplink full in both directions: the payload that crosses it upwards, of what its rate allows."""
    capacity_bps = lab.fabric.link_by_name[LOADED_LINK].capacity_bps / lab.up.link_divisor
    flows = {pair: lab.start_flow(*pair) for pair in ((0, 2), (2, 0))}
    time.sleep(SETTLE_S)
    before, began_s = lab.received_bytes(2), time.monotonic()
    time.sleep(WINDOW_S)
    received_bytes, took_s = lab.received_bytes(2) - before, time.monotonic() - began_s
    for (source, _), flow in flows.items():
        lab.stop_flow(source, flow)
    return {"payload_of_rate": received_bytes * 8 / WIRE_EFFICIENCY / took_s / capacity_bps}


def oracle(lab: Lab) -> list[Numbers]:
    """What the oracle says of one link at three loads, and the load by the count of the sink behind it."""
    source, target = lab.pair_of_tier(1)
    capacity_bps = lab.fabric.link_by_name[LOADED_LINK].capacity_bps / lab.up.link_divisor
    found = []
    for load, rate_bps in ((0.0, 0.0), (0.5, 0.5 * capacity_bps * WIRE_EFFICIENCY), (1.0, None)):
        flow = lab.start_flow(source, target, rate_bps=rate_bps) if load else None
        time.sleep(SETTLE_S / 2)
        before, started_s = lab.received_bytes(target), time.monotonic()
        samples = _samples(started_s + OBSERVED_S)
        carried_bytes, elapsed_s = lab.received_bytes(target) - before, time.monotonic() - started_s
        if flow is not None:
            lab.stop_flow(source, flow)
        truth = carried_bytes * 8 / WIRE_EFFICIENCY / elapsed_s / capacity_bps
        found.append({"load": load, "truth": truth, "samples": samples})
    return found


def _samples(until_s: float) -> list[float]:
    """Every new utilisation that is published until some moment."""
    client, seen = OracleClient(ORACLE_SOCKET), {}
    while time.monotonic() < until_s:
        document = client.fetch(1.0)
        seen[document["sampled_monotonic_s"]] = document["links"][LOADED_LINK]["utilisation"]
        time.sleep(0.02)
    return list(seen.values())


def stopped_controller(lab: Lab) -> Numbers:
    """The oracle's word while its controller works, is stopped, goes on and is dead, and a transfer after that."""
    controller = lab.up.controller
    assert controller is not None
    fresh = _watch(1.0, None)
    os.kill(controller.pid, signal.SIGSTOP)
    stopped_s = time.monotonic()
    stopped = _watch(1.5, fresh["sampled_s"][-1])
    os.kill(controller.pid, signal.SIGCONT)
    wait_until(lambda: (_sampled_s(1.0) or 0.0) > stopped_s + 1.5, 10.0, "a fresh sample after SIGCONT")
    resumed = _watch(1.0, None)
    controller.kill()
    controller.wait()
    killed_s = time.monotonic()
    killed = _watch(1.5, resumed["sampled_s"][-1])
    source, target = lab.pair_of_tier(3)
    _, received = lab.end_transfer(source, target, lab.start_transfer(source, target, 1_000_000, 4))
    return {
        "fresh": fresh,
        "stopped": stopped | {"at_s": stopped_s},
        "resumed": resumed,
        "killed": killed | {"at_s": killed_s},
        "bytes_after": received["bytes"],
    }


def _watch(seconds: float, held_s: float | None) -> Numbers:
    """Sample times seen and their ages, again and again; a reader keeps the last sample when no new one can be had."""
    ages_s, sampled_s = [], set()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        held_s = _sampled_s(0.2) or held_s
        if held_s is not None:
            ages_s.append(time.monotonic() - held_s)
            sampled_s.add(held_s)
        time.sleep(0.02)
    return {"ages_s": ages_s, "sampled_s": sorted(sampled_s)}


def _sampled_s(deadline_s: float) -> float | None:
    client = OracleClient(ORACLE_SOCKET)
    try:
        sampled_s: float | None = client.fetch(deadline_s)["sampled_monotonic_s"]
    except OracleUnavailableError:
        return None
    finally:
        client.close()
    return sampled_s


def failed_core(lab: Lab) -> Numbers:
    """A transfer across the pods, one core of which loses its cables half a second after the start."""
    source, target = lab.pair_of_tier(3)
    stripes, size_bytes = 32, _bytes_for(lab, 3, 3.2)  # of 32 some cross that core, but once in ten thousand
    cables = [(link.target, "core0") for link in lab.fabric.links_from["core0"]]
    lab.worker("prefill", source), lab.worker("decode", target)
    before = lab.counts()
    request = lab.start_transfer(source, target, size_bytes, stripes)
    time.sleep(0.5)
    halfway = lab.counts()
    for lower, upper in cables:
        lab.up.net.configLinkStatus(lower, upper, "down")
    cut = lab.counts()
    _, received = lab.end_transfer(source, target, request)
    after = lab.counts()
    everyone = reach(lab)
    for lower, upper in cables:
        lab.up.net.configLinkStatus(lower, upper, "up")
    return {
        "bytes": size_bytes,
        "received_bytes": received["bytes"],
        "packets_before": _forwarded(lab, "core0", before, halfway),
        "packets_after": _forwarded(lab, "core0", cut, after),
        "reach": everyone,
    }


def documented_client(_lab: Lab) -> str:
    """What the client in examples/ prints of one link."""
    return run(sys.executable, "examples/oracle_client.py", str(ORACLE_SOCKET), "srv0>tor0")


MEASUREMENTS = {
    measure.__name__: measure
    for measure in (
        datapaths,
        rates,
        reach,
        round_trips,
        ecn,
        cores,
        transfers,
        small_transfers,
        cross_pod_transfer,
        bisection,
        isolation,
        overload,
        both_ways,
        oracle,
        documented_client,
        fast_shaper,
        failed_core,
        stopped_controller,
        clocks,
        joint,
        load_on_a_path,
    )
}
