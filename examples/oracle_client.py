"""Rank two instances' ways out by what is left of their links: a client of the network cost oracle in twenty lines.

python3 examples/oracle_client.py /run/netkv/oracle.sock 'srv0>tor0' 'srv1>tor0'
"""

import json
import socket
import sys
import time

path, *wanted = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as oracle:
    oracle.settimeout(1.0)  # an oracle that does not answer is no reason to stop serving
    oracle.connect(path)
    oracle.sendall(b"\n")  # any line asks for the latest document
    document = json.loads(oracle.makefile("rb").readline())
if document["schema"] != "netkv.cost/v1" or not document["complete"]:
    sys.exit("no usable document: fall back to the nominal bandwidth of each tier")
age_s = time.monotonic() - document["sampled_monotonic_s"]  # the sample's own age, whenever the document was made
for name in wanted or document["links"]:
    link = document["links"][name]
    left_bps = link["capacity_bps"] * max(1 - link["utilisation"], 0)
    print(f"{name:<14} {left_bps / 1e9:8.1f} Gbit/s left, {age_s:.2f} s ago")
