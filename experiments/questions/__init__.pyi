# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .catalogue import QUESTIONS
from .prediction_error import age_bins
from .question import Axis, Packets, Profile, Question, note_on, reads_telemetry, workload_name, written
from .staleness import BASELINE, WITHOUT_TELEMETRY
from .staleness_wording import MARGIN_PERCENT

__all__ = [
    "BASELINE",
    "MARGIN_PERCENT",
    "QUESTIONS",
    "WITHOUT_TELEMETRY",
    "Axis",
    "Packets",
    "Profile",
    "Question",
    "age_bins",
    "note_on",
    "reads_telemetry",
    "workload_name",
    "written",
]
