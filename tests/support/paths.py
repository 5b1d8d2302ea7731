"""Where the project is."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder of the checkout."""


def environment() -> dict[str, str]:
    """For a child that imports `tests`: a dependency of Ryu ships a package of that name."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
