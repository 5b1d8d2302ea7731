"""A run while it goes on: links, transfers in flight, the snapshot's age, and its TTFT beside a baseline's.

from experiments.watching import LiveView

view = LiveView(fabric, "netkv_full in the analytic world", requests=200)
view.take(look)
print(view.line())
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
