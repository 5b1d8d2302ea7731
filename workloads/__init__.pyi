# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .arrivals import ARRIVALS, arrange
from .generator import generate
from .mooncake import read_trace
from .profiles import PROFILES, Profile, log_normal_lengths
from .request import BLOCK_TOKENS, Request, WorkloadError

__all__ = [
    "ARRIVALS",
    "BLOCK_TOKENS",
    "PROFILES",
    "Profile",
    "Request",
    "WorkloadError",
    "arrange",
    "generate",
    "log_normal_lengths",
    "read_trace",
]
