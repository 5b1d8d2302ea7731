"""A scenario: what both worlds agree on before they replay the same requests, background traffic included.

from scenario import Scenario, load_requests

scenario = Scenario(policy="netkv_full", seed=1)
fabric, roles = scenario.build()
print(len(roles.decode), "decode instances,", len(load_requests(scenario)), "requests")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
