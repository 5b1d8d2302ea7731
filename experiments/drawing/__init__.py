"""What figures show and how they look: quantities, styles and charts, and Matplotlib's figures of them.

from experiments.drawing import TTFT, REFRESH, LineChart, draw_chart

chart = LineChart(name="mine", title="My sweep", rows=results, x=REFRESH, quantities=(TTFT,))
draw_chart(chart, "5 seeds.", Path("."))  # mine.png and mine.svg

Only what draws loads Matplotlib: `draw_chart`, `draw_fabric`, `paper`, `put_title` and `save_figure`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
