"""What the live tests share: the numbers that probes in a sandbox have measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from experiments.running.run_spec import parse_settings
from testbed.send_buffer import LEASE, reclaim
from tests.support.live.in_a_sandbox import probe
from tests.support.live.lab import wait_until
from tests.support.live.machine import BUSY_PROCESSORS, busy_processors

OTHERS_S = 120.0
DEFAULT_RUN = (
    *(
        "datapaths",
        "documented_client",
        "rates",
        "reach",
        "transfers",
        "bisection",
        "overload",
        "both_ways",
        "oracle",
        "fast_shaper",
    ),
    *("failed_core", "stopped_controller"),
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A live test that fails while other work keeps the machine busy is made once more, and then says that it is."""
    try:
        return (yield)
    except AssertionError:
        if _busy_around(item) < BUSY_PROCESSORS:
            raise
    if (folder := getattr(item, "funcargs", {}).get("tmp_path")) is not None:
        item.funcargs["tmp_path"] = folder / "again"  # type: ignore[attr-defined]
        (folder / "again").mkdir()
    try:
        item.runtest()
    except AssertionError as error:
        busy = _busy_around(item)
        if busy < BUSY_PROCESSORS:
            raise
        pytest.fail(f"the machine was busy with other work ({busy:.1f} processors), so this may mean nothing: {error}")


def _busy_around(item: pytest.Item) -> float:
    """What others keep busy now, or kept during the probe whose numbers a test judges."""
    busy = busy_processors()
    for numbers in getattr(item, "funcargs", {}).values():
        if isinstance(numbers, dict):
            busy = max(busy, float(numbers.get("busy_processors", 0.0)))
    return busy


@pytest.fixture(scope="session")
def emulation(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the command line says of the emulation; by itself, it is the usual one of this machine."""
    return parse_settings(request.config.getoption("--emulation"))


@pytest.fixture(scope="session")
def measured(live_machine: None, emulation: dict[str, Any]) -> dict[str, Any]:
    """The default fabric."""
    return probe(emulation, *DEFAULT_RUN)


@pytest.fixture(scope="session")
def measured_on_two_machines(live_machine: None, emulation: dict[str, Any]) -> dict[str, Any]:
    """The default fabric, a pod on each of two machines, whose switches cannot be AF_XDP's."""
    if emulation.get("datapath") not in ("user", "kernel"):
        emulation = {**emulation, "datapath": "user"}
    measurements = ("rates", "reach", "clocks", "transfers", "bisection", "load_on_a_path", "joint")
    return probe(emulation, *measurements, machines=2)


@pytest.fixture(params=["measured", "measured_on_two_machines"])
def on_one_and_two(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The numbers of either fabric, for facts that hold on both."""
    found: dict[str, Any] = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def select_groups(live_machine: None, emulation: dict[str, Any]) -> dict[str, Any]:
    """The same fabric with plain SELECT groups: the negative control of hashing."""
    return probe({**emulation, "ecmp": "select"}, "bisection")


@pytest.fixture(scope="session")
def deep_queues(live_machine: None, emulation: dict[str, Any]) -> dict[str, Any]:
    """The same fabric with queues of 1000 frames."""
    return probe({**emulation, "queue": "fifo", "queue_packets": 1000}, "isolation")


@pytest.fixture(scope="session")
def kernel_default(live_machine: None, emulation: dict[str, Any]) -> dict[str, Any]:
    """Deep queues without the send-buffer lease: the negative control of isolation. Waits for nobody to hold one."""
    for _ in range(3):
        reclaim()
        wait_until(lambda: not LEASE.exists(), OTHERS_S, "the end of other runs that hold the send buffer")
        found = probe({**emulation, "queue": "fifo", "queue_packets": 1000}, "isolation", lease=False)
        if not LEASE.exists():
            return found
    pytest.fail("other runs take the send buffer again and again", pytrace=False)
