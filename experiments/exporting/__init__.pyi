# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .export_formats import EXPORTS, export_run
from .recorded_telemetry import RecordedTelemetry, read_telemetry

__all__ = ["EXPORTS", "RecordedTelemetry", "export_run", "read_telemetry"]
