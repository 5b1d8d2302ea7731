"""The paper as published, cell by cell: what is fitted, what is run, and which of its numbers come out.

from experiments.reproducing import PROFILES, planned_runs

print(len(planned_runs(PROFILES["quick"], ("analytic",))), "runs")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
