# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .capture_report import read_captures
from .comparison import compare_folders, in_words, one_a_specification, simulated
from .comparison_figures import COMPARISON_TITLE, NEAREST, diagonal, draw_comparison, error_distribution
from .ecmp_report import agreement, busiest_links, collisions, spread_by_tier
from .fluid_twins import (
    WithTwin,
    change_by_twin,
    difference_by_twin,
    mean_by_twin,
    replayed,
    share_by_twin,
    twins_of,
)
from .gains import gains_report
from .gains_by_twins import gains_by_twins, long_runs, with_told
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
    "WithTwin",
    "agreement",
    "busiest_links",
    "change_by_twin",
    "collisions",
    "compare_folders",
    "diagonal",
    "difference_by_twin",
    "draw_comparison",
    "error_distribution",
    "gains_by_twins",
    "gains_report",
    "in_words",
    "independent_report",
    "long_runs",
    "mean_by_twin",
    "measured_models",
    "models_report",
    "one_a_specification",
    "pair_up",
    "read_captures",
    "read_connections",
    "read_recorded",
    "replay_report",
    "replay_table",
    "replayed",
    "share_by_twin",
    "simulated",
    "spread_by_tier",
    "twins_of",
    "with_told",
]
