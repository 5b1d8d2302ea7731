"""A worker that may run ahead of ordinary processes: what the kernel says of its scheduling."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.workers_driver import Worker

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("live_machine")]


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_worker_may_run_ahead_of_ordinary_processes(tmp_path: Path, role: str) -> None:
    with Worker(tmp_path, role, "h0", "--realtime-priority", "1") as worker:
        assert os.sched_getscheduler(worker.process.pid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
        assert worker.quit() == 0
