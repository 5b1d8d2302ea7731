"""Runs and sweeps: specifications, the processes and clusters that make runs, and the folders that hold them.

from experiments.running import make_spec, open_world

spec = make_spec({}, {"world": "analytic", "workload.requests": 100})
with open_world(spec) as world:
    print(world.run(spec.scenario).duration_s, "s")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
