"""Before a run: what this machine has, what a run would ask of it, and the weights that a baseline should have.

from experiments.planning import examine

for finding in examine():
    print(finding.name, finding.ok, finding.found)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
