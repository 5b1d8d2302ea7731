"""The analytic world: an exact max-min fluid model of the fabric and the event loop that drives it.

from simulator import simulate_flows

finish_s = simulate_flows(capacity_Bps=[10.0], start_s=[0, 5], size_B=[100, 100], paths=[[0], [0]])
print(finish_s)  # [15. 20.]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
