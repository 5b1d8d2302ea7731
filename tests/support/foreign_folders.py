"""A user's folder that holds folders with the names of our packages, and a policy of the user's own."""

from __future__ import annotations

from pathlib import Path

PACKAGES = (
    *("topologies", "workloads", "scenario", "scheduler", "routers", "serving"),
    *("controller", "workers", "simulator", "testbed", "experiments"),
)
"""Our top-level packages."""

POLICY = "my_policy:Nearest"

SOURCE = """
from my_helper import order  # a module beside it


class Nearest:
    def select(self, request, candidates, view):
        import my_late_helper  # one that is first needed when a run is under way

        return candidates.best(candidates.tier * my_late_helper.ONE)
"""


def fill(folder: Path) -> Path:
    """Every other foreign package cannot be imported, the rest are bare folders. Returns the folder."""
    for number, name in enumerate(PACKAGES):
        (folder / name).mkdir(parents=True)
        (folder / name / "notes.txt").write_text("not ours")
        if number % 2:
            (folder / name / "__init__.py").write_text(f"raise RuntimeError('the foreign {name} was imported')\n")
    (folder / "my_policy.py").write_text(SOURCE)
    (folder / "my_helper.py").write_text("order = 1\n")
    (folder / "my_late_helper.py").write_text("ONE = 1\n")
    return folder
