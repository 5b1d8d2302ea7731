"""How this room compiles its inner loops: numba, without Python objects, cached on disk where a disk will take it.

numba keeps machine code in `__pycache__` beside the source, or in the user's cache folder when the
installation is read-only. Where neither can be written it refuses to decorate at all; then the code is
compiled anew in each process, which costs seconds and changes no result.

numba throws away stored code when the file of the function changes, but not when the file of a function that it calls
does. So `fingerprint` goes into a type that compiled functions take: after a change anywhere, no stored code fits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
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


def fingerprint(*modules: str) -> str:
    """Return eight hexadecimal digits that change when the source of one of these modules of this room changes."""
    sources = b"".join(Path(__file__).with_name(f"{module}.py").read_bytes() for module in modules)
    return f"{zlib.crc32(sources):08x}"
