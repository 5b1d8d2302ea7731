# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .conformance import times
from .feasibility import assess_feasibility, predict_load
from .foreign_packages import foreign_packages
from .machine_check import examine
from .model_table import ModelCosts, Published, checked, model_costs
from .policy_check import check_policy
from .run_plan import LEAST_FRAMES, plan_run
from .spec_template import spec_schema, spec_template
from .telemetry_display import telemetry_line, telemetry_table
from .tuning import DEFAULT_GRIDS, OBJECTIVES, grid_points, ranking, search, tuning_slice

__all__ = [
    "DEFAULT_GRIDS",
    "LEAST_FRAMES",
    "OBJECTIVES",
    "ModelCosts",
    "Published",
    "assess_feasibility",
    "check_policy",
    "checked",
    "examine",
    "foreign_packages",
    "grid_points",
    "model_costs",
    "plan_run",
    "predict_load",
    "ranking",
    "search",
    "spec_schema",
    "spec_template",
    "telemetry_line",
    "telemetry_table",
    "times",
    "tuning_slice",
]
