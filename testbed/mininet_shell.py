"""Mininet's command line on the fabric, inside a sandbox: interactive, or with commands from a pipe."""

from __future__ import annotations

import json
import sys

from mininet.cli import CLI
from mininet.log import setLogLevel

from scenario import Scenario
from testbed.emulation import EmulationSpec
from testbed.errors import TestbedError
from testbed.fabric_up import bring_up
from testbed.sandbox import prepare_sandbox


def main() -> int:
    """Bring up the fabric of the JSON argument and run Mininet's CLI on it; exit code 2 when that fails."""
    task = json.loads(sys.argv[1])
    scenario = Scenario.model_validate(task["scenario"])
    try:
        prepare_sandbox()
        up = bring_up(
            scenario.build()[0],
            EmulationSpec.model_validate(task["emulation"]),
            poll_s=scenario.oracle.poll_s,
            ecmp_seed=task["emulation"]["ecmp_seed"],
            say=lambda text: print(text, file=sys.stderr),
        )
    except TestbedError as problem:
        print(f"netkv: {problem}", file=sys.stderr)
        return 2
    setLogLevel("info")
    CLI(up.net)
    return 0


if __name__ == "__main__":
    sys.exit(main())
