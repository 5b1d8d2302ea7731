# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .fabric_figure import NAMES, draw_fabric, place_nodes
from .panels import PAIRED_TTFT, SLO, TBT, TTFT, Panel, bar_panels, heat_maps, line_panels, with_paired_bands
from .style import PRESETS, STYLES, paper, put_title, save_figure, style_of

__all__ = [
    "NAMES",
    "PAIRED_TTFT",
    "PRESETS",
    "SLO",
    "STYLES",
    "TBT",
    "TTFT",
    "Panel",
    "bar_panels",
    "draw_fabric",
    "heat_maps",
    "line_panels",
    "paper",
    "place_nodes",
    "put_title",
    "save_figure",
    "style_of",
    "with_paired_bands",
]
