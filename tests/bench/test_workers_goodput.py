"""Are the workers a fair load? Goodput and CPU beside iperf3's in the same run, and how late a decode step gets.

`pytest tests/bench -q -s` prints the figures. Loopback needs nobody's leave; the shaped veth pair needs root and lives
in two network namespaces of its own, which end with the processes that hold them.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.bench_ratios import Ratios
from tests.support.workers_driver import Worker

ROUNDS = 5
LOOPBACK_BYTES = 2_000_000_000
SHAPED_MBPS = 20
SHAPED_BYTES = 8_000_000
IPERF_PORT = 5301
NOISE = 0.97  # unshaped rates of one program differ by more than this between rounds on two busy cores
SET_UP = 0.99  # ours pays for connections and slow start, iperf3's clock starts after them


@pytest.fixture(scope="module", autouse=True)
def yardstick() -> None:
    if shutil.which("iperf3") is None:
        pytest.fail("iperf3 is the yardstick: run ./provision.sh")


class Ends(NamedTuple):
    """Where sender and receiver run: command prefixes, and the receiver's address."""

    sender: tuple[str, ...]
    receiver: tuple[str, ...]
    address: str


class Score(NamedTuple):
    goodput_Mbps: float
    cpu_s_per_GB: float


def cpu_s(pid: int) -> float:
    """Seconds on a processor, to the nanosecond: Documentation/scheduler/sched-stats.rst of Linux."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def iperf3(ends: Ends, total_bytes: int, streams: int) -> Score:
    """The receiver's own count over the receiver's own time, as iperf3 reports it."""
    command = ["iperf3", "-s", "-1", "-p", str(IPERF_PORT)]
    server = subprocess.Popen([*ends.receiver, *command], stdout=subprocess.PIPE)
    assert server.stdout is not None
    time.sleep(0.2)  # iperf3 does not say when it listens
    client = ["iperf3", "-c", ends.address, "-p", str(IPERF_PORT), "-n", str(total_bytes), "-P", str(streams), "-J"]
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run([*ends.sender, *client, "-C", "cubic"], check=True, capture_output=True).stdout
    server.communicate(timeout=30)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    received: dict[str, Any] = json.loads(output)["end"]["sum_received"]
    spent_s = end.ru_utime - begin.ru_utime + end.ru_stime - begin.ru_stime
    return Score(received["bits_per_second"] / 1e6, spent_s / received["bytes"] * 1e9)


class Pair:
    """A prefill and a decode worker, started once and measured often."""

    def __init__(self, stack: ExitStack, directory: Path, ends: Ends, *decode: str) -> None:
        options = ("--address", ends.address, *decode)
        sender = Worker(directory, "prefill", "p", "--congestion-control", "cubic", command=ends.sender)
        self.prefill = stack.enter_context(sender)
        self.decode = stack.enter_context(Worker(directory, "decode", "d", *options, command=ends.receiver))
        self.address = [ends.address, self.decode.first["port"]]
        self.requests = 0

    def start(self, total_bytes: int, stripes: int, output_tokens: int = 1) -> int:
        self.requests += 1
        request: dict[str, Any] = {"request_id": self.requests, "bytes": total_bytes, "stripes": stripes}
        self.decode.tell("expect", **request, context_tokens=0, output_tokens=output_tokens)
        if total_bytes:
            self.prefill.tell("transfer", **request, address=self.address, deadline_s=60)
        return self.requests

    def measure(self, total_bytes: int, stripes: int) -> Score:
        """From before the first connection to the last byte's arrival: set-up and headers are our own loss."""
        pids = self.prefill.first["pid"], self.decode.first["pid"]
        before_s = sum(map(cpu_s, pids))
        request_id = self.start(total_bytes, stripes)
        sent = self.prefill.wait_for("transferred", request_id=request_id)
        received = self.decode.wait_for("received", request_id=request_id)
        spent_s = sum(map(cpu_s, pids)) - before_s
        seconds = received["at_s"] - sent["started_s"]
        return Score(total_bytes * 8 / seconds / 1e6, spent_s / total_bytes * 1e9)


@pytest.fixture
def shaped() -> Iterator[Ends]:
    """Two hosts and a cable: 10.0.0.1 and 10.0.0.2, HTB at SHAPED_MBPS and a pfifo of 100 both ways."""
    if os.geteuid() != 0:
        pytest.fail("needs root for network namespaces")
    holders = [subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) for _ in "ab"]
    try:
        here = os.readlink("/proc/self/ns/net")
        while any(os.readlink(f"/proc/{holder.pid}/ns/net") == here for holder in holders):
            time.sleep(0.01)
        enter = [("nsenter", "-t", str(holder.pid), "-n") for holder in holders]
        cable = f"ip link add eth0 type veth peer name eth0 netns {holders[1].pid}"
        subprocess.run([*enter[0], *cable.split()], check=True)
        for number, prefix in enumerate(enter, start=1):
            for command in (
                "ip link set lo up",
                "ip link set eth0 up",
                f"ip addr add 10.0.0.{number}/24 dev eth0",
                "ethtool -K eth0 tx off",
                "tc qdisc add dev eth0 root handle 5: htb default 1",
                f"tc class add dev eth0 parent 5: classid 5:1 htb rate {SHAPED_MBPS}mbit burst 15k quantum 15000",
                "tc qdisc add dev eth0 parent 5:1 handle 10: pfifo limit 100",
            ):
                subprocess.run([*prefix, *command.split()], check=True, stdout=subprocess.DEVNULL)
        yield Ends(enter[0], enter[1], "10.0.0.2")
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def compare(ratios: Ratios, tmp_path: Path, ends: Ends, total_bytes: int, stripes: int, where: str) -> float:
    """Alternate rounds of both; print both; return the ratio of the medians of goodput."""
    with ExitStack() as stack:
        pair = Pair(stack, tmp_path, ends)
        rounds = [(pair.measure(total_bytes, stripes), iperf3(ends, total_bytes, stripes)) for _ in range(ROUNDS)]
    ours_s, theirs_s = ([1 / score.goodput_Mbps for score in side] for side in zip(*rounds, strict=True))
    ratios.note(f"goodput, {where}, {stripes} stripes", "iperf3", theirs_s, ours_s)
    ours, theirs = (Score(*map(statistics.median, zip(*side, strict=True))) for side in zip(*rounds, strict=True))
    ratio = ours.goodput_Mbps / theirs.goodput_Mbps
    print(
        f"\n{where}, {stripes} stripes: {ours.goodput_Mbps:,.1f} Mbit/s, iperf3 {theirs.goodput_Mbps:,.1f},"
        f" ratio {ratio:.3f}; CPU {ours.cpu_s_per_GB:.2f} s/GB, iperf3 {theirs.cpu_s_per_GB:.2f}"
    )
    return ratio


@pytest.mark.parametrize("stripes", [1, 4, 8])
def test_goodput_on_loopback(ratios: Ratios, tmp_path: Path, stripes: int) -> None:
    assert compare(ratios, tmp_path, Ends((), (), "127.0.0.1"), LOOPBACK_BYTES, stripes, "loopback") > NOISE


@pytest.mark.parametrize("stripes", [1, 4, 8])
def test_goodput_on_a_shaped_link(ratios: Ratios, tmp_path: Path, shaped: Ends, stripes: int) -> None:
    assert compare(ratios, tmp_path, shaped, SHAPED_BYTES, stripes, f"{SHAPED_MBPS} Mbit/s") >= SET_UP


@pytest.mark.parametrize("load", ["idle", "blobs arriving at full speed", "two busy loops"])
@pytest.mark.parametrize("priority", ["0", "1"])
def test_lag_of_decode_steps(tmp_path: Path, load: str, priority: str) -> None:
    """How long after its scheduled end a step of 10 ms is stamped, and what a real-time priority gains."""
    if priority != "0" and os.geteuid() != 0:
        pytest.fail("a real-time priority needs root")
    steps, step_s = 300, 0.010
    options = ("--step-table", f"1:{step_s}", "--realtime-priority", priority)
    with ExitStack() as stack:
        pair = Pair(stack, tmp_path, Ends((), (), "127.0.0.1"), *options)
        if load == "two busy loops":
            for _ in range(2):
                loop = stack.enter_context(subprocess.Popen(["sh", "-c", "while :; do :; done"]))
                stack.callback(loop.kill)
        request_id = pair.start(0, 1, output_tokens=steps)
        if load == "blobs arriving at full speed":
            for _ in range(3):
                pair.start(3_000_000_000, 4)
        token_s = pair.decode.wait_for("finished", request_id=request_id)["token_s"]
    # Only the schedule's spacing is known, not its start: the least late step stands for punctuality.
    offset_s = [at_s - step_s * token for token, at_s in enumerate(token_s)]
    late_ms = sorted(1e3 * (offset - min(offset_s)) for offset in offset_s)
    p50, p99 = late_ms[steps // 2], late_ms[steps * 99 // 100]
    who = "SCHED_RR" if priority != "0" else "ordinary"
    print(f"\n{load}, {who}: a step ends {p50:.2f} ms late (median), {p99:.2f} (p99), {late_ms[-1]:.2f} (worst)")
    assert p50 < 1e3 * step_s
