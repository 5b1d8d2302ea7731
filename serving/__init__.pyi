# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .background_evidence import asked_and_seen
from .outcome import ENDED_EARLY, POLICY_ERROR, Outcome, RequestRecord
from .prefill_queue import PrefillQueues

__all__ = ["ENDED_EARLY", "POLICY_ERROR", "Outcome", "PrefillQueues", "RequestRecord", "asked_and_seen"]
