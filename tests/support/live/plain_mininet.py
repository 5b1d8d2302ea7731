"""Plain `mn`, under the system's Python, on our topology file and our controller, in a sandbox of its own.

    python -m tests.support.live.plain_mininet CONTROLLER_JSON MN_ARGUMENT...

Prints what `mn` says and ends with its exit code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.sandbox import RUN_DIR, prepare_sandbox, run
from testbed.switches import start_switches
from tests.support.live.lab import wait_until

READ_ONLY = ("/proc/sys/kernel", "/proc/sys/fs", "/proc/sys/vm", "/tmp")
"""Mininet raises host-wide limits at start, and takes it if it cannot; its clean-up removes /tmp/*.log, whoever's."""

MN = ("/usr/bin/python3", "/usr/bin/mn")
DEADLINE_S = 60.0


def main() -> int:
    prepare_sandbox()
    start_switches()
    for directory in READ_ONLY:
        run("mount", "--bind", "-o", "ro", directory, directory)
    config = RUN_DIR / "controller.json"
    config.write_text(sys.argv[1], encoding="utf-8")
    with (RUN_DIR / "controller.log").open("wb") as log:
        launch = (sys.executable, "-m", "controller.launch", "--config", str(config))
        subprocess.Popen(launch, stdout=log, stderr=log)
    wait_until(lambda: _answers(RUN_DIR / "oracle.sock"), DEADLINE_S, "the controller")
    home = {**os.environ, "HOME": str(RUN_DIR)}  # cleaned up, too
    command = (*MN, *sys.argv[2:])
    return subprocess.run(command, stderr=subprocess.STDOUT, env=home, timeout=DEADLINE_S, check=False).returncode


def _answers(oracle: Path) -> bool:
    try:
        OracleClient(oracle).fetch(1.0)
    except OracleUnavailableError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
