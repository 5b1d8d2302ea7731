# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .invariants import INVARIANTS, check_folder, check_run
from .violation import Violation

__all__ = ["INVARIANTS", "Violation", "check_folder", "check_run"]
