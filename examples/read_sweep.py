"""Read a sweep with pandas: mean time to first token by policy and refresh interval, and how long a transfer took.

python examples/read_sweep.py results/staleness-...
"""

import sys
from pathlib import Path

from experiments import read_sweep
from experiments.analysis import counted

requests = read_sweep(Path(sys.argv[1]))  # a row a request, with world, policy, refresh_s, seed and verdict
valid = counted(requests[requests["verdict"] != "invalid"])  # without the first tenth of each run, as in tables
groups = valid.groupby(["world", "policy", "refresh_s"], dropna=False)  # only who reads telemetry has a refresh_s
print(groups[["ttft_ms", "kv_transfer_ms"]].mean().round(1).to_string())
