# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .alto_gateway import OracleSource
from .capacity import FRAMES_A_SEGMENT, PAYLOAD_BYTES, Capacity, measure_capacity
from .capture import CaptureOrder
from .capture_reader import Conversation, Endpoints, read_capture
from .child_python import child_python
from .datapath import Datapath, afxdp_bytes, afxdp_lacks, choose_datapath
from .emulated_world import EmulatedWorld
from .emulation import AUTO, FROM_THE_MACHINE, EmulationSpec
from .errors import BrokenRunError, TestbedError
from .kernel import FEATURES, Feature
from .sandbox import SANDBOX_REMEDY, hidden_in_sandbox, python_in_sandbox, require_root, require_sandbox, sandbox_lacks
from .send_buffer import LEASE, SETTING, SendBufferLease, reclaim
from .transfer_engine import ENGINE_REMEDY, LIBRARIES_REMEDY, engine_installed, engine_problem
from .verdict import judge
from .worker_pool import BACKGROUND_PORT, DECODE_PORT

__all__ = [
    "AUTO",
    "BACKGROUND_PORT",
    "DECODE_PORT",
    "ENGINE_REMEDY",
    "FEATURES",
    "FRAMES_A_SEGMENT",
    "FROM_THE_MACHINE",
    "LEASE",
    "LIBRARIES_REMEDY",
    "PAYLOAD_BYTES",
    "SANDBOX_REMEDY",
    "SETTING",
    "BrokenRunError",
    "Capacity",
    "CaptureOrder",
    "Conversation",
    "Datapath",
    "EmulatedWorld",
    "EmulationSpec",
    "Endpoints",
    "Feature",
    "OracleSource",
    "SendBufferLease",
    "TestbedError",
    "afxdp_bytes",
    "afxdp_lacks",
    "child_python",
    "choose_datapath",
    "engine_installed",
    "engine_problem",
    "hidden_in_sandbox",
    "judge",
    "measure_capacity",
    "python_in_sandbox",
    "read_capture",
    "reclaim",
    "require_root",
    "require_sandbox",
    "sandbox_lacks",
]
