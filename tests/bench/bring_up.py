"""How long a fabric takes to come up, beside plain Mininet with as many hosts, switches and cables in the same run.

    sudo .venv/bin/python -m tests.bench.bring_up [--hosts 16 64 128 256] [--datapath user] [--rounds 3]

Prints one line a size: seconds, medians over the rounds, and ours over those of each of Mininet's kinds of links
(`tests/support/live/bring_up.py`).
"""

from __future__ import annotations

import argparse
import sys
from statistics import median

from testbed.sandbox import require_sandbox
from testbed.send_buffer import SendBufferLease
from tests.support.live.bring_up import KINDS, SHAPES, bring_up_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--datapath", choices=("user", "afxdp", "kernel"), default="user")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    require_sandbox()
    with SendBufferLease():
        for hosts in options.hosts:
            rounds = [
                {kind: bring_up_s(kind, hosts, options.datapath) for kind in KINDS} for _ in range(options.rounds)
            ]
            found = {kind: median(one[kind] for one in rounds) for kind in KINDS}
            ratios = ", ".join(f"{found['ours'] / found[kind]:.1f} x {kind}" for kind in ("Link", "TCLink"))
            seconds = ", ".join(f"{kind} {one_s:.1f} s" for kind, one_s in found.items())
            print(f"{hosts} hosts, {options.datapath}: {seconds}: {ratios}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
