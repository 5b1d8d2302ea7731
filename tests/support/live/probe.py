"""The first process of a sandbox: brings one fabric up and takes the measurements that it is asked for.

    python -m tests.support.live.probe '{"fabric": {"pods": 2}, "emulation": {"ecmp": "select"}, "machines": 1}' rates

The first argument holds fields of FabricSpec and of EmulationSpec, and the number of machines; further ones name
measurements. Every result is one line of JSON on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time

from testbed.emulation import EmulationSpec
from testbed.fabric_up import bring_up
from testbed.sandbox import prepare_sandbox
from tests.support.live.lab import Lab
from tests.support.live.measurements import MEASUREMENTS
from topologies import FabricSpec, build_fattree

POLL_S = 0.1
ECMP_SEED = 0


def main() -> None:
    results = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    prepare_sandbox()
    task = json.loads(sys.argv[1])
    fabric = build_fattree(FabricSpec(**task["fabric"]))
    emulation = EmulationSpec.model_validate(task["emulation"])
    lab = Lab(bring_up(fabric, emulation, poll_s=POLL_S, ecmp_seed=ECMP_SEED, machines=task.get("machines", 1)))
    for name in sys.argv[2:]:
        started_s = time.monotonic()
        result = MEASUREMENTS[name](lab)
        print(json.dumps({"name": name, "result": result, "took_s": time.monotonic() - started_s}), file=results)


if __name__ == "__main__":
    main()
