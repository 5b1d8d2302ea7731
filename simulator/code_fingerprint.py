"""How stored machine code follows the source (`scheduler.compiled` says how inner loops are compiled).

numba throws away stored code when the file of the function changes, but not when the file of a function that it calls
does. So `fingerprint` goes into a type that compiled functions take: after a change anywhere, no stored code fits.
"""

from __future__ import annotations

import zlib
from pathlib import Path


def fingerprint(*modules: str) -> str:
    """Return eight hexadecimal digits that change when the source of one of these modules of this package changes."""
    sources = b"".join(Path(__file__).with_name(f"{module}.py").read_bytes() for module in modules)
    return f"{zlib.crc32(sources):08x}"
