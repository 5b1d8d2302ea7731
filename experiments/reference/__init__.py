"""Reference results: runs that others can cite, hold their own against, and enter a new policy into.

from pathlib import Path
from experiments.reference import default_place, read_data_set

requests = read_data_set(default_place()).requests("regimes")  # a row a request, as a pandas frame
print(requests.groupby(["regime", "policy"])["ttft_ms"].mean())
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
