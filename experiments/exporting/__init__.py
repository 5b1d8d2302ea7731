"""A run in the formats of other tools: vLLM's and AIPerf's results, CSV, and a trace that Perfetto opens.

from pathlib import Path
from experiments.exporting import export_run

Path("trace.json").write_text(export_run(Path("results/run"), "chrome-trace"))  # open it on ui.perfetto.dev
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
