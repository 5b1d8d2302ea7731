"""Measures the capacity of this machine: blobs through a small fabric without rate limits, a few seconds in a sandbox.

Run as a module it is the first process of that sandbox and prints one JSON line; `measure_capacity` starts it.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from typing import Any, cast, get_args

from scenario import CongestionSpec, Scenario
from testbed.calibration import ATTEMPTS, BlobSender, Pair
from testbed.cpu_monitor import CpuMonitor
from testbed.datapath import Datapath
from testbed.emulation import EmulationSpec
from testbed.errors import TestbedError
from testbed.fabric_up import FabricUp, bring_up
from testbed.sandbox import prepare_sandbox, python_in_sandbox, require_sandbox
from testbed.send_buffer import SendBufferError, SendBufferLease
from testbed.worker_pool import Event, WorkerPool
from topologies import FabricSpec

DEADLINE_S = 90.0
SMALL = FabricSpec(pods=2, racks_per_pod=1, servers_per_rack=2, aggregations_per_pod=1, cores_per_group=1)
"""8 hosts and 9 switches: the smallest fabric with two servers in a rack and paths across pods."""

CAPACITY_RATE_SCALE = 20.0
"""Gives links of 5 to 180 Gbit/s, far more than software switches carry."""

BLOB_BYTES = 20_000_000
FRAME_BYTES, PAYLOAD_BYTES = 1514, 1448
FRAMES_A_SEGMENT = 1.5
"""A data frame and half an acknowledgement: Linux acknowledges every second segment (RFC 9293, section 3.8.6.3)."""

LEAST_CPUS = 1e-3
"""Least value of `busy_cpus`: the two measurements that it is the difference of are not more exact."""


@dataclass(frozen=True)
class Capacity:
    """The measured capacity of a machine with one `datapath`.

    - `rack_bps`: frames of one transfer between two servers of a rack, bit/s; `across_bps`: the same across pods.
    - `switched_per_s`: frames per second of several transfers across pods at once, counted at every switch they pass.
    - `busy_cpus`: processors, of `cpus`, that other processes kept busy during the measurement.
    - `bringup_s`: time to bring up `hosts` and `switches`, seconds.
    """

    datapath: Datapath
    rack_bps: float
    across_bps: float
    switched_per_s: float
    busy_cpus: float
    cpus: int
    bringup_s: float
    hosts: int
    switches: int

    @classmethod
    def read(cls, given: Any) -> Capacity:
        """From plain data; ValueError when that is not a calibration's result."""
        names = {item.name for item in fields(cls)}
        if not isinstance(given, dict) or given.keys() != names:
            raise ValueError("not a calibration")
        if given["datapath"] not in get_args(Datapath):
            raise ValueError(f"not a calibration: datapath is {given['datapath']!r}")
        for name, value in given.items():
            if name != "datapath" and not _is_amount(value):
                raise ValueError(f"not a calibration: {name} is {value!r}")
        return cls(**given)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def measure_capacity(datapath: Datapath) -> Capacity:
    """Measure with switches of that datapath. TestbedError when something is missing, refused or late."""
    require_sandbox()
    try:
        with SendBufferLease():
            command = python_in_sandbox("testbed.capacity", datapath)
            done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    except SendBufferError as problem:
        raise TestbedError(str(problem)) from None
    except subprocess.TimeoutExpired:
        raise TestbedError(
            f"the calibration did not end within {DEADLINE_S:g} s; stop other work on this machine"
        ) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise TestbedError(f"the calibration failed: {lines[-1] if lines else 'no message'}")
    return Capacity(**json.loads(done.stdout))


def switches_passed(up: FabricUp, source: int, target: int) -> int:
    return len(up.fabric.paths(source, target)[0]) - 1


async def _measure(up: FabricUp, scenario: Scenario, bringup_s: float) -> Capacity:
    _, roles = scenario.build()
    blobs: list[BlobSender] = []

    def on_event(_role: str, _instance: int, event: Event) -> None:
        for sender in blobs:
            sender.on_event(event)

    async with WorkerPool(up, roles, (), scenario, on_event) as pool:
        blobs.append(BlobSender(up, scenario.serving.stripes, pool.tell))
        cpu_monitor = CpuMonitor(up, roles.decode[0])
        watching = asyncio.create_task(cpu_monitor.watch())

        async def rate_bps(*pairs: Pair) -> float:
            """The best of `ATTEMPTS`: other work on the machine can only slow a transfer down."""
            bits = 8 * BLOB_BYTES * FRAME_BYTES / PAYLOAD_BYTES
            took_s = [(await blobs[0].send(pairs, BLOB_BYTES // len(pairs))).duration_s for _ in range(ATTEMPTS)]
            return bits / min(took_s)

        near, far = (
            next(
                (p, d) for p in roles.prefill for d in roles.decode if up.fabric.tier(p, d) == tier
            ) for tier in (1, 3)
        )  # fmt: skip
        half = len(roles.decode) // 2
        crossed = list(zip(roles.prefill, roles.decode[half:] + roles.decode[:half], strict=True))
        together_bps = await rate_bps(*crossed)
        rack_bps, across_bps = await rate_bps(near), await rate_bps(far)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        cpu, cpus = cpu_monitor.evidence(), os.cpu_count() or 1
        frames_per_s = together_bps / 8 / FRAME_BYTES * FRAMES_A_SEGMENT
        return Capacity(
            datapath=up.spec.datapath,
            rack_bps=rack_bps,
            across_bps=across_bps,
            switched_per_s=frames_per_s * switches_passed(up, *far),
            busy_cpus=max((1 - cpu["cpu_idle_mean"]) * cpus - cpu["own_cpus"], LEAST_CPUS),
            cpus=cpus,
            bringup_s=bringup_s,
            hosts=len(up.fabric.instances),
            switches=len(up.fabric.switches),
        )


def main(datapath: Datapath) -> int:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    scenario = Scenario(fabric=SMALL, congestion=CongestionSpec(kind="none"))
    began_s = time.monotonic()
    try:
        prepare_sandbox()
        up = bring_up(
            scenario.build()[0],
            EmulationSpec(datapath=datapath, rate_scale=CAPACITY_RATE_SCALE),
            poll_s=scenario.oracle.poll_s,
            ecmp_seed=0,
        )
        found = asyncio.run(_measure(up, scenario, time.monotonic() - began_s))
    except TestbedError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(json.dumps(asdict(found)), file=answer, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(cast(Datapath, sys.argv[1])))
