"""What the paper published, as data: every number of arXiv 2606.03910v1 that this project knows, and how it knows it.

from experiments.published import published_cells

print(next(cell.value for cell in published_cells("Table 2") if cell.policy == "round_robin"), "ms")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
