"""A run ends when the daemon that forwards for its switches does, and not before."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest

from testbed import TestbedError
from testbed.forwarding_watch import watch_forwarding


@pytest.mark.parametrize("waited_for", [True, False])
def test_a_daemon_that_ends_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited_for: bool) -> None:
    """Whether or not its parent has asked after it."""
    monkeypatch.setattr("testbed.forwarding_watch.LOOK_S", 0.01)
    with subprocess.Popen(["sleep", "60"]) as other, subprocess.Popen(["sleep", "60"]) as daemon:
        for name, process in (("ovs-vswitchd.tor0", other), ("ovs-vswitchd.tor1", daemon)):
            (tmp_path / f"{name}.pid").write_text(f"{process.pid}\n")

        async def run() -> None:
            watching = asyncio.create_task(watch_forwarding(tmp_path))
            daemon.send_signal(signal.SIGSTOP)  # a pause is no end
            await asyncio.sleep(0.1)
            assert not watching.done()
            daemon.kill()
            if waited_for:
                daemon.wait()
            with pytest.raises(TestbedError, match=r"^ovs-vswitchd\.tor1 has ended: "):
                await asyncio.wait_for(watching, 10)

        try:
            asyncio.run(run())
        finally:
            other.kill()
