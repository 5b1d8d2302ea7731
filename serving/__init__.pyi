# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .attempts import STRIDE, Attempts
from .background_evidence import AFTER_ITS_END, offered_and_measured
from .fault_record import FaultRecord, note_paths
from .lifecycle import STAGES, Lifecycle
from .movers import Hit, Movers
from .outcome import POLICY_ERROR, RETRIED, UNREPEATABLE, Outcome, RequestRecord
from .prefill_queue import PrefillQueues
from .run_look import LifeWatch, RunLook, TransferUnderWay, Watch

__all__ = [
    "AFTER_ITS_END",
    "POLICY_ERROR",
    "RETRIED",
    "STAGES",
    "STRIDE",
    "UNREPEATABLE",
    "Attempts",
    "FaultRecord",
    "Hit",
    "LifeWatch",
    "Lifecycle",
    "Movers",
    "Outcome",
    "PrefillQueues",
    "RequestRecord",
    "RunLook",
    "TransferUnderWay",
    "Watch",
    "note_paths",
    "offered_and_measured",
]
