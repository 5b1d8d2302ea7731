"""Publish `netkv.cost/v1` from byte counters of any source: an operator's oracle in the standard library.

    COLLECTOR | python3 examples/publish_cost.py /run/netkv/oracle.sock links.csv

Standard input has a line a reading, `PORT BYTES UNIX_S`: what the port has sent since it came up, and when that was
read. links.csv has a line a directed link, `NAME,BIT/S,PORT`: tor0>agg0,100e9,tor0:Ethernet0. It ends with its input.
"""

import csv
import json
import os
import socketserver
import sys
import threading
import time
from pathlib import Path

path, links_file = sys.argv[1:]
with open(links_file) as file:
    rows = [(name, float(bps), port) for name, bps, port in csv.reader(file)]
links = {name: {"utilisation": None, "capacity_bps": bps, "bytes": 0} for name, bps, _ in rows}
link_of = {port: name for name, _, port in rows}
readings = {}  # by link: the last counter and its time
measured = {}  # by link: when its utilisation was measured
sequence = 0


def read(port, counter, unix_s):
    """Take one reading. A counter that went back was restarted: its interval is left out, and no burst is invented."""
    name = link_of.get(port)
    if name is None:
        return
    before, before_s = readings.get(name, (counter, unix_s))
    readings[name] = counter, unix_s
    if counter >= before and unix_s > before_s:
        used = 8 * (counter - before) / (unix_s - before_s) / links[name]["capacity_bps"]
        links[name] |= {"utilisation": min(used, 1.05), "bytes": links[name]["bytes"] + counter - before}
        measured[name] = unix_s


def document():
    """As old as its oldest link: a switch that has gone silent makes it old, not fresh."""
    global sequence
    sequence += 1
    complete = len(measured) == len(links)
    oldest_s = min(measured.values()) if complete else None
    return {
        **{"schema": "netkv.cost/v1", "sequence": sequence, "complete": complete, "poll_s": 1.0, "rate_scale": 1.0},
        "sampled_unix_s": oldest_s,
        "sampled_monotonic_s": oldest_s and time.monotonic() - (time.time() - oldest_s),
        **{"switches_expected": 1, "switches_programmed": 1, "switches_missing": [], "packet_ins": 0},
        **{"links": links, "tiers": []},
    }


class Answer(socketserver.StreamRequestHandler):
    """The latest document for every line."""

    timeout = 60

    def handle(self):
        while self.rfile.readline(4096):
            self.wfile.write(json.dumps(document()).encode() + b"\n")


Path(path).unlink(missing_ok=True)
os.umask(0o077)  # the socket is ours alone
with socketserver.ThreadingUnixStreamServer(path, Answer) as server:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        try:
            port, counter, unix_s = line.split()
            read(port, int(counter), float(unix_s))
        except ValueError:
            print(f"no reading, PORT BYTES UNIX_S was expected: {line.strip()[:80]}", file=sys.stderr)
    server.shutdown()
Path(path).unlink(missing_ok=True)
