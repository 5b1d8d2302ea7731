# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .attempts import STRIDE, Attempts
from .background_evidence import offered_and_measured
from .fault_record import FaultRecord, note_paths
from .lifecycle import Hit, Lifecycle, Movers
from .outcome import POLICY_ERROR, Outcome, RequestRecord
from .prefill_queue import PrefillQueues

__all__ = [
    "POLICY_ERROR",
    "STRIDE",
    "Attempts",
    "FaultRecord",
    "Hit",
    "Lifecycle",
    "Movers",
    "Outcome",
    "PrefillQueues",
    "RequestRecord",
    "note_paths",
    "offered_and_measured",
]
