"""Emulated runs beside the analytic world: transfer by transfer, path by path, decision by decision.

from pathlib import Path
from experiments.comparing import compare_folders

report, transfers = compare_folders(Path("results/run"))
print(report["replay"]["kv_transfer"]["median_abs_error"])
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
