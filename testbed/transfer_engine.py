"""Whether the package of a transfer engine is there: before a run needs it, and for `netkv doctor`."""

from __future__ import annotations

import importlib
import importlib.util

from scenario import ServingSpec
from testbed.errors import TestbedError

ENGINE_REMEDY = "pip install 'netkv-testbed[engines]', or `make routers`"
LIBRARIES_REMEDY = "apt-get install libibverbs1 libnuma1 libcurl4 libssl3"


def check_engine(serving: ServingSpec) -> None:
    """TestbedError when the engine that moves KV is not installed. Whether it loads, its workers say."""
    if serving.engine == "mooncake" and not engine_installed():
        raise TestbedError(f"serving.engine: mooncake: its package is not installed: {ENGINE_REMEDY}")


def engine_installed() -> bool:
    return importlib.util.find_spec("mooncake") is not None


def engine_problem() -> str:
    """Why an installed engine does not load, in one line; empty where it does. Loads it into this process."""
    try:
        importlib.import_module("mooncake.engine")
    except ImportError as problem:
        return " ".join(str(problem).split())
    return ""
