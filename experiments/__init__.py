"""The questions: command line, specifications, sweeps, the store of runs and what is drawn from them.

from pathlib import Path
from experiments import read_sweep

requests = read_sweep(Path("results/staleness-..."))  # a row a request, as a pandas frame
print(requests.groupby("policy")["ttft_ms"].mean())
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
