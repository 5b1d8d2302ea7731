"""Packages of others that Python finds in the place of ours: `scheduler` and `workers` are names that others use, too.

Imports nothing of ours but what it reports with: with a foreign package in the way, the rest would not load.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from experiments.planning.finding import Finding

PROJECT = Path(__file__).resolve().parents[2]
"""The folder that holds our packages."""

PACKAGES = (
    *("topologies", "workloads", "scenario", "scheduler", "routers", "serving"),
    *("controller", "workers", "simulator", "testbed", "experiments"),
)
OURS = "netkv-testbed"


def foreign_packages() -> list[Finding]:
    """A finding for each of our packages that another one shadows; one that is ok where none is."""
    found = [(name, place) for name in PACKAGES if (place := place_of(name)) != PROJECT / name]
    if not found:
        return [Finding("our packages", True, f"all from {PROJECT}")]
    return [
        Finding(f"our package: {name}", False, "missing" if place is None else f"{place} is in its place", remedy)
        for name, place in found
        for remedy in [remedy_for(name, place)]
    ]


def place_of(name: str) -> Path | None:
    """The folder of the package that a new process would import under this name; None where there is none.

    What this process has imported is not asked: it may have been loaded before something else got in its way.
    """
    spec = PathFinder.find_spec(name) or find_spec(name)
    if spec is None:
        return None
    if spec.origin is not None and spec.has_location:
        file = Path(spec.origin).resolve()
        return file.parent if spec.submodule_search_locations is not None else file
    return next((Path(place).resolve() for place in spec.submodule_search_locations or ()), None)


def remedy_for(name: str, place: Path | None) -> str:
    """The command, or what to do where none does it."""
    if place is None:
        return "./provision.sh"
    owners = [owner for owner in packages_distributions().get(name, []) if owner != OURS]
    if owners and any(part in ("site-packages", "dist-packages") for part in place.parts):
        return f"{sys.executable} -m pip uninstall {owners[0]}, then ./provision.sh"
    return f"take {place.parent} out of PYTHONPATH and of the .pth files of {sys.prefix}"
