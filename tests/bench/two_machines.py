"""What it costs to part a fabric between two machines: the default fabric on one and on two, a row of a table each.

    python -m tests.bench.two_machines [--set FIELD=VALUE ...]

Needs root. The machines are stand-ins on this one (testbed/machines.py), so they share its processors; every switch is
on the userspace datapath. Round trips are the least of five of an idle fabric.
"""

from __future__ import annotations

import argparse

from experiments.running.run_spec import parse_settings
from testbed.port_watch import ETHERNET_BYTES
from tests.support.live.in_a_sandbox import probe

MEASURED = {
    1: ("round_trips", "cross_pod_transfer", "bisection"),
    2: ("round_trips", "cross_pod_transfer", "bisection", "clocks", "joint"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the emulation")
    emulation = {"datapath": "user", **parse_settings(parser.parse_args().set)}
    print(
        "machines | round trip in a rack, ms | across pods, ms | goodput across pods, of the rate | eight pairs, Mbit/s"
    )
    for machines, measured in MEASURED.items():
        found = probe(emulation, *measured, machines=machines)
        in_rack_ms, across_ms = (1e3 * one["least_s"] for one in found["round_trips"])
        alone = found["cross_pod_transfer"]
        filled = alone["bytes"] * 8 / alone["seconds"] / alone["rate_bps"]
        pairs_Mbps = sum(found["bisection"]["goodput_bps"]) / 1e6
        print(f"{machines} | {in_rack_ms:.2f} | {across_ms:.2f} | {filled:.3f} | {pairs_Mbps:.1f}")
    sent = found["joint"]["sent"].values()
    frames, sent_bytes = sum(count["packets"] for count in sent), sum(count["bytes"] for count in sent)
    sent_bytes += ETHERNET_BYTES * frames  # a tunnel's end counts frames without that header
    added, control_kBps = found["joint"]["carried_bytes"] - sent_bytes, found["joint"]["control_Bps"] / 1e3
    clock = found["clocks"][1]
    print(f"a frame grows by {added / frames:.2f} bytes; OpenFlow takes {control_kBps:.0f} kB/s between the machines")
    print(f"the other clock is {clock['ahead_s']:.6f} s ahead, known to {1e6 * clock['error_s']:.0f} us", end="; ")
    print(f"at the end {clock['now_s']:.6f} s, to {1e6 * clock['error_now_s']:.0f} us")
    print(f"busy with other work: {found['busy_processors']:.1f} processors")


if __name__ == "__main__":
    main()
