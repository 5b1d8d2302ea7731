# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .baseline import Baseline, baseline_of
from .live_run import Watched, watched_run
from .live_view import LiveView

__all__ = ["Baseline", "LiveView", "Watched", "baseline_of", "watched_run"]
