"""How inner loops are compiled: numba, without Python objects, cached on disk where a disk will take it.

numba keeps machine code in `__pycache__` beside the source, or in the user's cache folder when the
installation is read-only. Where neither can be written it refuses to decorate at all; then the code is
compiled anew in each process, which costs seconds and changes no result.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])

# Division follows IEEE 754 (no check for zero) and floating point is never reordered. Compiled functions allocate
# nothing, so the run-time that counts references to arrays is left out: its atomic counting took half of the time.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": False, "_nrt": False}


def compiled(function: Function) -> Function:
    """Return `function` compiled at its first call; later processes reuse the machine code if it can be stored.

    The function may use numbers, records and arrays that its caller owns; it cannot make an array.
    """
    try:
        machine_code = njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # "cannot cache function ...: no locator available for file ..."
        machine_code = njit(cache=False, **OPTIONS)(function)
    return cast(Function, machine_code)


def load_compiler() -> None:
    """Load what numba loads before its first function runs, except for SciPy's linear algebra and cffi.

    It imports both only to learn whether compiled code could call them, which takes longer than all else of a short
    run. Ours calls neither. Code of a user that does has imported them already, and then they stay visible.
    """
    hidden = [name for name in ("scipy.linalg", "cffi") if name not in sys.modules]
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]  # None: importing it raises ImportError
    try:
        for module in ("numba.core.typing.cffi_utils", "numba.np.arraymath"):
            importlib.import_module(module)
    finally:
        for name in hidden:
            del sys.modules[name]
