"""Which code makes a run: what two processes, or two days, must agree on for their runs to belong to one sweep."""

from __future__ import annotations

import hashlib
from pathlib import Path

from experiments.running.machine import git_commit, versions

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *(
        "topologies",
        "workloads",
        "scenario",
        "scheduler",
        "routers",
        "serving",
        "controller",
        "workers",
        "simulator",
        "testbed",
    ),
    *("experiments/running", "experiments/analysis"),
)
"""Where what makes a run is; the questions asked and the figures drawn may change under a sweep."""

NOT_OF_THE_CODE = ("kernel", "openvswitch", "mininet", "netkv-testbed")
"""Versions that belong to a machine rather than to its Python environment: a cluster may mix them."""

DIGITS = 12
"""Of a digest, which tell any two versions apart."""


class OtherCodeError(RuntimeError):
    """A run was asked for by other code than that which would make it; the message is the difference."""


def code_identity() -> dict[str, str]:
    """`source`, a digest of the modules that make a run, the `commit` they are from, and versions of the packages.

    Of the files as they are now: a process that lives on should ask when it starts, and keep the answer.
    """
    packages = {name: found for name, found in versions().items() if name not in NOT_OF_THE_CODE}
    return {"source": _digest(), "commit": git_commit() or "unknown", **packages}


def difference_of_code(one: dict[str, str], other: dict[str, str]) -> str | None:
    """In words, what is not the same; None when runs of both belong together. The same source at two commits does."""
    for name in sorted({*one, *other} - {"commit"}, key=lambda name: (name != "source", name)):
        if one.get(name) != other.get(name):
            shown = [
                f"{code.get(name)} (commit {code.get('commit')})" if name == "source" else f"{code.get(name)}"
                for code in (one, other)
            ]
            return f"{name} was {shown[0]}, now {shown[1]}"
    return None


def digest_of(file: Path) -> str:
    """Of a file that a run reads; `missing` where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:DIGITS]
    except OSError:
        return "missing"


def source_files() -> list[Path]:
    """The modules that the digest is of."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def _digest() -> str:
    digest = hashlib.sha256()
    for path in source_files():
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:DIGITS]
