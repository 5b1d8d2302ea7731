"""Workers and the driver, which run ahead of ordinary processes: what the kernel says of their scheduling."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from testbed.scheduling_priority import REALTIME_PRIORITY, realtime_thread
from tests.support.workers_driver import Worker
from workers.privileges import NOBODY

pytestmark = [pytest.mark.live, pytest.mark.untimed, pytest.mark.usefixtures("live_machine")]


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_worker_may_run_ahead_of_ordinary_processes(tmp_path: Path, role: str) -> None:
    with Worker(tmp_path, role, "h0", "--realtime-priority", "1") as worker:
        assert os.sched_getscheduler(worker.process.pid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
        assert "NoNewPrivs:\t1" in status
        assert worker.quit() == 0


def scheduling() -> int:
    """The policy of the calling thread."""
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def test_the_driver_does_while_it_serves_and_the_threads_that_it_starts_do_not() -> None:
    of_threads: list[int] = []
    assert scheduling() == os.SCHED_OTHER
    with realtime_thread(REALTIME_PRIORITY):
        assert scheduling() == os.SCHED_RR
        helper = threading.Thread(target=lambda: of_threads.append(scheduling()))
        helper.start()
        helper.join()
    assert (scheduling(), of_threads) == (os.SCHED_OTHER, [os.SCHED_OTHER])
