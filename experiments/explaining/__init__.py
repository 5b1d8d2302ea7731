"""Why a run sent a request where it did: each instance as the policy saw it, and what it would really have cost.

from pathlib import Path
from experiments.explaining import explain_requests, in_sentences

explanation = explain_requests(Path("results/run"), [17])[0]
print(in_sentences(explanation), explanation.regret_ms)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
