"""The history checker: whether the records of a run are a history that could have happened.

It shares no code with what makes runs: the fabric, the roles and the costs that it expects are worked out here anew
from the specification in the manifest. docs/reference/invariants.md lists what it checks.

from pathlib import Path
from experiments.checking import check_folder

for run, violations in check_folder(Path("results/staleness")).items():
    print(run, *violations, sep="\\n")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
