# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .answers import answers, totals
from .cells_beside import COLUMNS, CellBeside, cells_beside, cells_frame
from .cells_by_twins import cells_by_twins
from .charts import paper_charts
from .conditions import PaperCondition
from .fit import PARAMETERS, declared_cells, fit_workload, taken_over_from_rag
from .planned_runs import NAME, PROFILES, TABLES, ReproductionProfile, cells_of, planned_runs, short

__all__ = [
    "COLUMNS",
    "NAME",
    "PARAMETERS",
    "PROFILES",
    "TABLES",
    "CellBeside",
    "PaperCondition",
    "ReproductionProfile",
    "answers",
    "cells_beside",
    "cells_by_twins",
    "cells_frame",
    "cells_of",
    "declared_cells",
    "fit_workload",
    "paper_charts",
    "planned_runs",
    "short",
    "taken_over_from_rag",
    "totals",
]
