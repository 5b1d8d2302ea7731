"""The decision: policy contract, cost model, oracle, prefix index and the policies. No Mininet, no Ryu, no clock.

class Nearest:  # a policy of your own: `netkv run --policy my_policies:Nearest`
    def select(self, request, candidates, view):
        return candidates.best(candidates.tier)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
