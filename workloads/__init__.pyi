# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .arrivals import ARRIVALS, arrange
from .generator import generate
from .profiles import PROFILES, Profile, log_normal_lengths
from .request import BLOCK_TOKENS, Request, WorkloadError
from .sessions import turns_before
from .timely_file import open_in_time
from .trace import Trace, count_requests, read_trace
from .trace_conversion import convert_trace
from .trace_formats import PER_SECOND
from .trace_report import TracePart, TraceReport, report_on_trace

__all__ = [
    "ARRIVALS",
    "BLOCK_TOKENS",
    "PER_SECOND",
    "PROFILES",
    "Profile",
    "Request",
    "Trace",
    "TracePart",
    "TraceReport",
    "WorkloadError",
    "arrange",
    "convert_trace",
    "count_requests",
    "generate",
    "log_normal_lengths",
    "open_in_time",
    "read_trace",
    "report_on_trace",
    "turns_before",
]
