# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .alternatives import Asked, DecodeSide, Destination, SentRequest, TrueCost, true_costs
from .analytic_world import AnalyticWorld
from .cache_warming import WarmCaches, warm_caches
from .closed_form import ClosedFormTransport
from .errors import SimulationError, StuckError
from .fluid import NoProgressError, simulate_flows
from .network import FluidNetwork
from .path_choice import BACKGROUND, TRANSFER, PathChoice, PersistentConnections
from .recorded import RecordedPaths, RecordedTransfer, recorded_background, recorded_paths, replay_recorded
from .simulation import SimulationSpec
from .transport import FluidTransport, Transport

__all__ = [
    "BACKGROUND",
    "TRANSFER",
    "AnalyticWorld",
    "Asked",
    "ClosedFormTransport",
    "DecodeSide",
    "Destination",
    "FluidNetwork",
    "FluidTransport",
    "NoProgressError",
    "PathChoice",
    "PersistentConnections",
    "RecordedPaths",
    "RecordedTransfer",
    "SentRequest",
    "SimulationError",
    "SimulationSpec",
    "StuckError",
    "Transport",
    "TrueCost",
    "WarmCaches",
    "recorded_background",
    "recorded_paths",
    "replay_recorded",
    "simulate_flows",
    "true_costs",
    "warm_caches",
]
