"""What sweeps say of the paper's claims C1 to C8, world by world, by rules fixed before measuring.

from pathlib import Path
from experiments.claims import verdicts

for verdict in verdicts([Path("results")]):
    print(verdict.claim, verdict.world, verdict.verdict)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
