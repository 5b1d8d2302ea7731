"""The targets of `tests.bench.fuzz`, their cases led by the branches that they reach.

    pip install atheris; python -m tests.bench.fuzz_guided trace [-runs=100000] [-max_len=4096] [FOLDER]

What follows the target is libFuzzer's. Atheris is no dependency of the project: install it where you want it. Ends with
the case at the first fault.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

READERS = ["workloads", "workers", "scheduler.oracle", "testbed.oracle_client", "experiments.running"]

FIRST_CASES = 200
"""Generated ones, from which the guided ones begin."""

with atheris.instrument_imports(include=READERS):
    from tests.support.fuzzing.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory(prefix="netkv-fuzz-") as folder:
        corpus = Path(folder) / "cases"
        corpus.mkdir()
        for seed in range(FIRST_CASES):
            (corpus / str(seed)).write_bytes(target.case(seed))
        atheris.Setup([*sys.argv, str(corpus)], lambda case: target.check(Path(folder), bytes(case)) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
