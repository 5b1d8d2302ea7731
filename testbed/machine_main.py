"""The first process of a further machine: prepares its sandbox, starts its Open vSwitch and waits for its end.

Says `up` when the switches run, or in one line what is wrong; ends with its standard input.
"""

from __future__ import annotations

import os
import sys

from testbed.errors import TestbedError
from testbed.sandbox import RUN_DIR, prepare_sandbox, run
from testbed.switches import start_switches


def main() -> int:
    sockets = os.open(RUN_DIR, os.O_PATH | os.O_DIRECTORY)
    try:
        prepare_sandbox()
        # The driver's folder of Unix sockets, which a file system of our own covers now; ssh -R on a computer.
        run("mount", "--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{sockets}", str(RUN_DIR))
        start_switches()
    except TestbedError as problem:
        print(problem, flush=True)
        return 2
    print("up", flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
