"""How this room compiles its inner loops: numba, without Python objects, cached on disk where a disk will take it.

numba keeps machine code in `__pycache__` beside the source, or in the user's cache folder when the
installation is read-only. Where neither can be written it refuses to decorate at all; then the code is
compiled anew in each process, which costs seconds and changes no result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Return `function` compiled at its first call; the machine code is reused by later processes if it can be stored.

    Division follows IEEE 754 (no check for zero) and floating point is never reordered, so that results do not
    depend on the compiler's mood.
    """
    try:
        machine_code = njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # "cannot cache function ...: no locator available for file ..."
        machine_code = njit(cache=False, error_model="numpy")(function)
    return cast(Function, machine_code)
