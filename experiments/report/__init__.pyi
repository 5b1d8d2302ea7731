# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .page import write_report

__all__ = ["write_report"]
