"""The report: a folder of runs or sweeps as one page that needs no network, for people to look at.

from pathlib import Path
from experiments.report import write_report

write_report(Path("results/staleness-..."), Path("report.html"))
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
