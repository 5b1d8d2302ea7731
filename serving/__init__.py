"""A request's life, the same in both worlds, and the record of what became of it.

from scenario import Scenario
from serving import Outcome
from simulator import AnalyticWorld

outcome: Outcome = AnalyticWorld(Scenario()).run(Scenario())
print(outcome.requests[0].ttft_ms)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
