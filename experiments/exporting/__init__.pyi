# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .export_formats import EXPORTS, export_run

__all__ = ["EXPORTS", "export_run"]
