"""The fidelity verdict of one emulated run: how far its evidence lets it be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from scenario import NETWORK_FAULTS, TELEMETRY_FAULTS, Scenario
from serving import Outcome
from testbed.calibration import TCP_PAYLOAD_SHARE
from testbed.request_movers import LATE_S
from topologies import Level

LATE_SUSPECT_MS = LATE_S * 1e3
LATE_INVALID_MS = 200.0
"""99th percentile of how late requests were issued: 20 ms is a tenth of a short transfer, 200 ms a whole one."""

LATE_INVALID = 0.1
"""Share of requests issued more than `LATE_SUSPECT_MS` late beyond which the workload is another one: our choice."""

STARVED_SUSPECT = 0.50
"""Share of 250 ms windows without idle processor time. It alone makes no run invalid: with 0, 2, 4 and 8 busy loops
beside it on two cores, 77, 100, 100 and 100 % of its windows starved, the same run had mean transfers of 397, 365, 334
and 302 ms (one run each)."""

LAG_SUSPECT_MS = 25.0
LAG_INVALID_MS = 50.0
"""99th percentile of a timer's lag at ordinary priority in a host's namespace. Driver and workers of requests have
real-time priority; what is late with it is the begin and the end of background flows, by a sixtieth of the main job's
period, and `paced_background` holds what they sent between. Measured, three runs of one seed beside 0, 1 and 2 busy
loops: lags of 5.8, 7.8 and 9.1 ms, requests issued 2.8, 3.5 and 2.1 ms late, flows at 100.0 % of their rates, transfers
0.9, 1.1 and 1.4 % above the fluid answer; on a machine 1.4 times as slow, alone, lags of 7 to 13 ms."""

SWITCH_WAIT_SUSPECT = 0.08
SWITCH_WAIT_INVALID = 0.3
"""Share of the time for which vswitchd was runnable and had no processor; every packet waits with it. Measured, one
run each of the same 30 transfers without background: 0.03 alone (median gap to the fluid answer 5 ms), 0.10 beside
four busy loops (16 ms), 0.12, 0.12 and 0.13 beside two other testbeds (11, 21 and 31 ms); 0.3 is our choice."""

AGE_SLACK_S = 0.25
"""How much older than `refresh_s + poll_s + delay_s` a telemetry snapshot may be, 99th percentile over decisions."""

LOSSES_A_DROP = 32
"""Frames that may be lost for each drop in a full queue: vswitchd then drops the rest of its batch as well."""

LEAST_LOSS = 0.001
"""Share of the delivered frames that may be lost outside queues, or retransmitted without a loss."""

RETRANSMISSIONS_OFF = 0.25
"""Largest relative difference between retransmitted segments and lost frames."""

SQUEEZED = 0.001
"""Times that the kernel ran out of its budget for received packets, over frames delivered. Measured: 0."""

CALIBRATION_SUSPECT = 0.85
CALIBRATION_INVALID = 0.6
"""Rate of a blob on an idle path over what its links should give, the lesser of before and after. Measured: 0.97 on a
machine with 2 % idle time, 0.11 and 0.16 where the links were 25 times as fast as by default."""

SATURATED_OFF = 0.05
"""Largest relative difference between the rate of saturated ports and the shaper's rate. Measured: 0.001."""

OVERSHOOT = 1.05
"""Most bytes of a port in 100 ms, over what its shaper's rate and burst allow. Measured: 0.99."""

CONSERVED = (0.97, 1.15)
"""Bytes that reached hosts over those that the workers acknowledged, headers of full frames included. The rest are
acknowledgements and retransmissions. Measured: 1.02 to 1.03."""

TRANSFER_ERROR_SUSPECT, TRANSFER_ERROR_INVALID = 0.1, 0.3
"""Time of all KV transfers beyond the fluid answer to the same decisions (`replay_probe`), either way: an error of 10 %
is as large as the gains that policies are compared by."""

TELEMETRY_OFF = 0.05
"""Bytes that the controller counted on all links against what the ports counted meanwhile, as a part of the latter."""

PACED_LEAST = 0.85
"""Least share of their rates that paced background flows may send, all together. Beside KV traffic on a full link they
get less than they ask for, as they would on real links."""

ROUND_TRIP_SHARE = 0.1
"""Idle round trip of the farthest tier over the median KV transfer: the fluid model has none, a fabric one of
microseconds. Measured with the default load and datapath=afxdp: 0.018 and 0.023 (two runs)."""

PATHS_MISMATCH = 0.2
"""Bytes on multipath links that the traced paths of the connections do not explain, over all bytes on them."""

LEVELS_CLIMBED = {2: 1, 3: 2}
"""Multipath links on a connection's way, by tier: into an aggregation, and into a core."""

LEAST_BYTES = 1_000_000
"""With fewer bytes neither conservation nor paths are judged."""

OTHER_WORK = "stop other work on this machine"
"""In the text of every reason that a busy machine explains."""

LESS_WORK = f"{OTHER_WORK}, or raise emulation.time_dilation"
"""The remedy where processors were too slow for the run."""


OF_THE_NETWORK = (*("transfer_time_error", "conservation", "losses", "retransmissions", "paths", "saturated_rate"),)
"""Probes that hold the network against what it would have carried whole."""

OF_THE_MACHINE = (
    *("arrival_lateness", "late_requests", "timer_lag", "switch_wait", "cpu_starved"),
    *("softnet_drops", "telemetry_error", "paced_background"),
)
"""Probes that hold the processors against what they would have done in time."""

EXPLAINED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(NETWORK_FAULTS, OF_THE_NETWORK),
    **dict.fromkeys(TELEMETRY_FAULTS, ("oracle_age",)),
    **dict.fromkeys(("prefill_worker_killed", "decode_worker_killed"), (*OF_THE_NETWORK, "worker_complaints")),
    "background_surge": (),
    "worker_hung": (*OF_THE_NETWORK, "worker_complaints"),
    "machine_paused": (*OF_THE_NETWORK, *OF_THE_MACHINE, "worker_complaints", "oracle_age"),
}
"""Probes that a fault of the plan moves, by kind: while a run has one, they say nothing about the machine."""


class VerdictReason(NamedTuple):
    """A probe beyond its limit: the sentence for the user, whether the run is invalid, and the value over the limit."""

    probe: str
    text: str
    invalid: bool
    excess: float


def judge(scenario: Scenario, outcome: Outcome) -> dict[str, Any]:
    """`verdict` valid, suspect or invalid, the `reasons`, worst first, and the `worst` probe; a valid run has none."""
    explained = {probe for row in outcome.faults for probe in EXPLAINED[row["kind"]]}
    reasons = [reason for reason in _reasons(scenario, outcome) if reason.probe not in explained]
    found = sorted(reasons, key=lambda reason: (not reason.invalid, -reason.excess))
    verdict = "valid" if not found else "invalid" if found[0].invalid else "suspect"
    return {
        "verdict": verdict,
        "reasons": [reason.text for reason in found],
        "worst": found[0].probe if found else None,
    }


def _reasons(scenario: Scenario, outcome: Outcome) -> Iterator[VerdictReason]:
    yield from _fabric_reuse(outcome.evidence)
    yield from _machine(outcome.evidence)
    yield from _network(outcome.evidence)
    yield from _traffic(outcome)
    yield from _losses(outcome.evidence)
    yield from _paths(scenario, outcome)
    yield from _requests(scenario, outcome)
    if deaths := outcome.evidence.get("worker_deaths"):
        text = f"{len(deaths)} workers ended that no fault had killed; the first: {deaths[0]}"
        yield VerdictReason("worker_deaths", text, True, len(deaths))
    for key in ("worker_complaints", "background_failures"):
        if complaints := outcome.evidence.get(key):
            text = f"{len(complaints)} {key.replace('_', ' ')}; the first: {complaints[0]}"
            yield VerdictReason(key, text, False, len(complaints))


def _requests(scenario: Scenario, outcome: Outcome) -> Iterator[VerdictReason]:
    """Whether every request was issued on time, decided on fresh telemetry and carried out."""
    hit = {request_id for row in outcome.faults for request_id in row["request_ids"]}
    failed = [one.error for one in outcome.requests if one.status == "failed" and one.request_id not in hit]
    if failed:
        yield VerdictReason("failures", f"{len(failed)} requests failed; the first: {failed[0]}", True, len(failed))
    ages_s = [r.oracle_age_ms / 1e3 for r in outcome.requests if r.oracle_age_ms == r.oracle_age_ms]
    oracle = scenario.oracle
    allowed_s = oracle.refresh_s + oracle.poll_s + oracle.delay_s + AGE_SLACK_S
    oldest_s = sorted(ages_s)[int(0.99 * (len(ages_s) - 1))] if ages_s else 0.0
    if oracle.source != "static" and not oracle.loss and oldest_s > allowed_s:
        text = f"the telemetry snapshot was {oldest_s:.1f} s old at decisions (p99; limit {allowed_s:g} s); {LESS_WORK}"
        yield VerdictReason("oracle_age", text, False, oldest_s / allowed_s)
    late, allowed = outcome.evidence.get("late_requests", 0), LATE_INVALID * len(outcome.requests)
    if late > allowed:
        text = (
            f"{late} of {len(outcome.requests)} requests were issued more than {LATE_SUSPECT_MS:g} ms late"
            f" (limit {allowed:g}); {LESS_WORK}"
        )
        yield VerdictReason("late_requests", text, True, late / max(allowed, LATE_INVALID))


def _fabric_reuse(evidence: dict[str, Any]) -> Iterator[VerdictReason]:
    """Whether the fabric held nothing of another run at the start, and nothing of this one at the end."""
    for key, when, invalid in (("clean_start", "before", True), ("clean_end", "after", False)):
        proof = evidence.get(key, {"clean": True})
        if not proof["clean"]:
            text = (
                f"the fabric was not clean {when} the run ({proof['took_s']:.1f} s waited): {proof['left'][0]};"
                " run again on a new fabric"
            )
            yield VerdictReason(key, text, invalid, float(len(proof["left"])))


def _machine(evidence: dict[str, Any]) -> Iterator[VerdictReason]:
    """Whether the processors were fast enough."""
    for probe, key, what, suspect_ms, invalid_ms in (
        ("arrival_lateness", "arrival_lateness_p99_ms", "requests were issued", LATE_SUSPECT_MS, LATE_INVALID_MS),
        ("timer_lag", "timer_lag_p99_ms", "timers fired", LAG_SUSPECT_MS, LAG_INVALID_MS),
    ):
        late_ms = evidence.get(key, 0.0)
        if late_ms > suspect_ms:
            limit_ms = invalid_ms if late_ms > invalid_ms else suspect_ms
            text = f"{what} {late_ms:.0f} ms late (p99; limit {limit_ms:g} ms); {LESS_WORK}"
            yield VerdictReason(probe, text, late_ms > invalid_ms, late_ms / limit_ms)
    starved = evidence.get("cpu_starved", 0.0)
    if starved > STARVED_SUSPECT:
        text = (
            f"no processor was idle in {starved:.0%} of the 250 ms windows (limit {STARVED_SUSPECT:.0%}); {LESS_WORK}"
        )
        yield VerdictReason("cpu_starved", text, False, starved / STARVED_SUSPECT)
    wait = evidence.get("switch_wait_mean", 0.0)
    if wait > SWITCH_WAIT_SUSPECT:
        limit = SWITCH_WAIT_INVALID if wait > SWITCH_WAIT_INVALID else SWITCH_WAIT_SUSPECT
        text = f"the switches waited for a processor {wait:.0%} of the time (limit {limit:.0%}); {LESS_WORK}"
        yield VerdictReason("switch_wait", text, wait > SWITCH_WAIT_INVALID, wait / limit)
    if drops := evidence.get("softnet_drops", 0):
        text = f"the kernel dropped {drops} packets before they reached a switch (limit 0); {LESS_WORK}"
        yield VerdictReason("softnet_drops", text, False, drops)
    squeezes, allowed = evidence.get("softnet_squeezes", 0), SQUEEZED * evidence.get("delivered_frames", 0)
    if squeezes > allowed:
        text = f"the kernel postponed received packets {squeezes} times (limit {allowed:.0f}); {LESS_WORK}"
        yield VerdictReason("softnet_squeezes", text, False, squeezes / max(allowed, 1))


def _network(evidence: dict[str, Any]) -> Iterator[VerdictReason]:
    """Whether the links were what the specification says."""
    rate = min(evidence.get("calibration", [1.0]))
    if rate < CALIBRATION_SUSPECT:
        invalid = rate < CALIBRATION_INVALID
        limit = CALIBRATION_INVALID if invalid else CALIBRATION_SUSPECT
        text = (
            f"an idle path gave {rate:.0%} of its rate (limit {limit:.0%}): the links are faster than this machine"
            " carries; raise emulation.rate_scale or emulation.time_dilation"
        )
        yield VerdictReason("calibration", text, invalid, limit / max(rate, 1e-3))
    saturated = evidence.get("saturated_rate")
    if saturated is not None and abs(saturated - 1) > SATURATED_OFF:
        text = (
            f"saturated ports carried {saturated:.1%} of their shaper's rate"
            f" (limits {1 - SATURATED_OFF:.0%} and {1 + SATURATED_OFF:.0%}); raise emulation.rate_scale"
        )
        yield VerdictReason("saturated_rate", text, False, abs(saturated - 1) / SATURATED_OFF)
    error = evidence.get("transfer_time_error")
    if error is not None and abs(error) > TRANSFER_ERROR_SUSPECT:
        invalid = abs(error) > TRANSFER_ERROR_INVALID
        limit = TRANSFER_ERROR_INVALID if invalid else TRANSFER_ERROR_SUSPECT
        text = (
            f"all KV transfers together took {error:+.0%} against the fluid answer to the same decisions (limit"
            f" {limit:.0%}): small blobs or long queues; lower emulation.rate_scale"
        )
        yield VerdictReason("transfer_time_error", text, invalid, abs(error) / limit)
    overshoot = evidence.get("port_overshoot", 0.0)
    if overshoot > OVERSHOOT:
        port = evidence.get("port_overshoot_at") or "a port"
        text = (
            f"{port} carried {overshoot:.2f} times what its shaper allows in 100 ms (limit {OVERSHOOT:g}):"
            " its shaper does not limit it; run `netkv doctor`"
        )
        yield VerdictReason("port_overshoot", text, True, overshoot / OVERSHOOT)
    delivered = conserved(evidence)
    if delivered is not None and not CONSERVED[0] <= delivered <= CONSERVED[1]:
        text = (
            f"the switches delivered {delivered:.2f} times the bytes that the workers sent"
            f" (limits {CONSERVED[0]} and {CONSERVED[1]}): port counters and workers disagree"
        )
        invalid = delivered < CONSERVED[0]
        excess = CONSERVED[0] / max(delivered, 1e-3) if invalid else delivered / CONSERVED[1]
        yield VerdictReason("conservation", text, invalid, excess)


def _traffic(outcome: Outcome) -> Iterator[VerdictReason]:
    """Whether telemetry, background traffic and round trips were what the specification says."""
    evidence = outcome.evidence
    error = evidence.get("telemetry_error")
    if error is not None and abs(error) > TELEMETRY_OFF:
        text = (
            f"the controller counted {error:+.0%} bytes against the ports' own counters (limit {TELEMETRY_OFF:.0%}):"
            f" telemetry was wrong or late; {LESS_WORK}"
        )
        yield VerdictReason("telemetry_error", text, False, abs(error) / TELEMETRY_OFF)
    paced = evidence.get("paced_background")
    if paced is not None and paced < PACED_LEAST:
        text = (
            f"paced background flows sent {paced:.0%} of their rates (limit {PACED_LEAST:.0%}): links were full, or"
            f" senders late; lower congestion.utilisation, or {LESS_WORK}"
        )
        yield VerdictReason("paced_background", text, False, PACED_LEAST / max(paced, 1e-3))
    transfers_ms = sorted(r.kv_transfer_ms for r in outcome.requests if r.kv_bytes and r.kv_transfer_ms > 0)
    if transfers_ms and (idle_ms := evidence.get("idle_round_trip_ms")):
        share = max(idle_ms.values()) / transfers_ms[len(transfers_ms) // 2]
        evidence["round_trip_share"] = share
        if share > ROUND_TRIP_SHARE:
            text = (
                f"the idle round trip, {max(idle_ms.values()):.1f} ms, was {share:.0%} of the median KV transfer"
                f" (limit {ROUND_TRIP_SHARE:.0%}); lower emulation.rate_scale, or raise emulation.time_dilation"
            )
            yield VerdictReason("round_trip", text, False, share / ROUND_TRIP_SHARE)


def _losses(evidence: dict[str, Any]) -> Iterator[VerdictReason]:
    """Whether full queues explain the lost frames, and the lost frames explain the retransmissions."""
    if "queue_drops" not in evidence or "retransmitted" not in evidence:
        return
    lost, retransmitted = max(evidence["lost_frames"], 0), evidence["retransmitted"]
    spare = LEAST_LOSS * evidence["delivered_frames"]
    explained = LOSSES_A_DROP * evidence["queue_drops"] + spare
    if lost > explained:
        text = (
            f"{lost} frames were lost in the fabric (limit {explained:.0f}, with {evidence['queue_drops']} drops in"
            f" full queues): some were lost outside the emulated queues; {LESS_WORK}"
        )
        yield VerdictReason("losses", text, False, lost / explained)
    apart, allowed = abs(retransmitted - lost), RETRANSMISSIONS_OFF * max(retransmitted, lost) + spare
    if apart > allowed and not evidence.get("background_udp"):
        text = (
            f"senders retransmitted {retransmitted} segments for {lost} frames lost in the fabric"
            f" (difference {apart}, limit {allowed:.0f})"
        )
        yield VerdictReason("retransmissions", text, False, apart / allowed)


def _paths(scenario: Scenario, outcome: Outcome) -> Iterator[VerdictReason]:
    """Whether every multipath link carried the bytes of the connections that were traced over it.

    Connections whose path is not known may explain their own bytes, once on each level that they climbed.
    """
    counted = outcome.evidence.get("link_bytes", {})
    if not outcome.paths or outcome.evidence.get("background_udp"):
        return
    scale = outcome.evidence["rate_scale"] * TCP_PAYLOAD_SHARE
    traced: Counter[str] = Counter()
    for row in outcome.paths:
        for link in row["links"]:
            traced[link] += row["bytes"] / scale
    unknown = [row for row in outcome.paths if row["path"] < 0]
    if unknown:
        text = f"{len(unknown)} of {len(outcome.paths)} connections have no known path"
        yield VerdictReason("paths", text, False, len(unknown) / len(outcome.paths) / PATHS_MISMATCH)
    fabric, _ = scenario.build()
    level = {switch.name: switch.level for switch in fabric.switches}
    multipath = [
        link.name for link in fabric.links if Level.TOR <= level.get(link.source, -1) < level.get(link.target, -1)
    ]
    total = sum(counted.get(link, 0) for link in multipath)
    unexplained = sum(abs(counted.get(link, 0) - traced[link]) for link in multipath)
    climbed = sum(row["bytes"] / scale * LEVELS_CLIMBED.get(row["tier"], 0) for row in unknown)
    mismatch = max(unexplained - climbed, 0.0) / max(total, 1)
    outcome.evidence["paths_mismatch"] = mismatch
    if total > LEAST_BYTES and mismatch > PATHS_MISMATCH:
        text = (
            f"the traced paths do not explain {mismatch:.0%} of the bytes on multipath links"
            f" (limit {PATHS_MISMATCH:.0%}): do not use this run's paths"
        )
        yield VerdictReason("paths", text, False, mismatch / PATHS_MISMATCH)


def conserved(evidence: Mapping[str, Any]) -> float | None:
    """Bytes that switches delivered over those that the workers sent, headers included.

    None with UDP background, whose delivery nobody acknowledges, and with too few bytes to compare.
    """
    workers = (evidence.get("kv_wire_bytes", 0) + evidence.get("background_bytes", 0)) / TCP_PAYLOAD_SHARE
    if workers < LEAST_BYTES or "delivered_bytes" not in evidence or evidence.get("background_udp"):
        return None
    return float(evidence["delivered_bytes"] / workers)
