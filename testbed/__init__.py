"""The emulated world: sandbox, bring-up, run and verdict. Real TCP through Open vSwitch on Mininet.

from scenario import Scenario
from testbed import EmulatedWorld, EmulationSpec

with EmulatedWorld(Scenario(), EmulationSpec()) as world:  # needs root
    print(world.run(Scenario()).requests[0].ttft_ms)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
