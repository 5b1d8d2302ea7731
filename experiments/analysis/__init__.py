"""From requests to figures: intervals, corrected p-values, the tidy results of a sweep, the theory.

from experiments.analysis import paired_change

change = paired_change(requests_of_one_policy, requests_of_another, "ttft_ms")
print(f"{change.percent:+.1f} % [{change.low:+.1f}, {change.high:+.1f}]")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
