# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .capture_report import read_captures
from .comparison import compare_folders, in_words, one_a_specification, simulated
from .comparison_figures import COMPARISON_TITLE, NEAREST, diagonal, draw_comparison, error_distribution
from .ecmp_report import agreement, busiest_links, collisions, spread_by_tier
from .gains import gains_report
from .independent_runs import IndependentRun, independent_report, pair_up
from .recorded_run import FRAME_B, MODELS, ON_PATHS, PAYLOAD_B, REPLAY, measured_models, read_connections, read_recorded
from .replay_error import models_report, replay_report, replay_table

__all__ = [
    "COMPARISON_TITLE",
    "FRAME_B",
    "MODELS",
    "NEAREST",
    "ON_PATHS",
    "PAYLOAD_B",
    "REPLAY",
    "IndependentRun",
    "agreement",
    "busiest_links",
    "collisions",
    "compare_folders",
    "diagonal",
    "draw_comparison",
    "error_distribution",
    "gains_report",
    "in_words",
    "independent_report",
    "measured_models",
    "models_report",
    "one_a_specification",
    "pair_up",
    "read_captures",
    "read_connections",
    "read_recorded",
    "replay_report",
    "replay_table",
    "simulated",
    "spread_by_tier",
]
