"""A request: its lengths, prefix and arrival time; read from a trace or drawn from a profile.

from numpy.random import default_rng
from workloads import generate

requests = generate("conversation", count=100, rate_rps=3.4, rng=default_rng(0))
print(requests[0].input_length, "tokens at", requests[0].timestamp_s, "s")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
