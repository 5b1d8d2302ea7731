"""The target that is a folder of results, of which one file is broken."""

from __future__ import annotations

import json
import random
import struct
from functools import cache
from pathlib import Path

from experiments.checking import check_folder
from experiments.running import SpecError, StoreError, read_sweep
from experiments.running.store import read_manifest, read_summary, read_table, spec_of
from experiments.running.sweep import DESCRIPTION, RUNS
from experiments.running.sweep_folder import hold, read_description
from tests.support.fuzzing.target import Target
from tests.support.fuzzing.values import damaged, mutated, written
from tests.support.small_sweeps import small_conditions, sweep_in

FILES = (
    *("manifest.json", "summary.json", "requests.parquet", "decisions.parquet", "links.parquet", "measured.json"),
    DESCRIPTION,
)
WHICH = struct.Struct("!B")


@cache
def sound_sweep(folder: Path) -> Path:
    """A sweep of two small runs."""
    out = folder / "sweep"
    sweep_in(out, small_conditions(runs=2, requests=4))
    return out


def make_folder(rng: random.Random) -> bytes:
    """The number of a file, and what is to be done with its bytes: a seed, or the bytes themselves."""
    return WHICH.pack(rng.randrange(len(FILES))) + rng.randbytes(8)


def read_as_folder(folder: Path, case: bytes) -> None:
    out = sound_sweep(folder)
    name = FILES[case[0] % len(FILES)] if case else FILES[0]
    run = sorted((out / RUNS).glob("[!.]*"))[0]
    file = out / name if name == DESCRIPTION else run / name
    sound = file.read_bytes()
    description = json.loads((out / DESCRIPTION).read_bytes())
    rng = random.Random(case)
    if file.suffix == ".json" and rng.random() < 0.7:
        broken = written(rng, damaged(rng, json.loads(sound)))
    else:
        broken = mutated(rng, sound)
    file.write_bytes(broken)
    try:
        read_everything(out, run, description)
    finally:
        file.write_bytes(sound)


def read_everything(out: Path, run: Path, description: dict[str, object]) -> None:
    problems = []
    for read in (
        lambda: spec_of(run, read_manifest(run)),
        lambda: read_summary(run),
        *((lambda table=table: read_table(run, table)) for table in ("requests", "decisions", "links")),
        lambda: read_description(out),
        lambda: _resume(out, description),
        lambda: read_sweep(out),
        lambda: check_folder(out),
    ):
        try:
            read()  # type: ignore[no-untyped-call]
        except (StoreError, SpecError) as problem:
            problems.append(problem)
    if problems:
        raise problems[0]


def _resume(out: Path, description: dict[str, object]) -> None:
    with hold(out, description, resume=True):
        pass


FOLDER_TARGETS = (Target("folder", make_folder, read_as_folder, (StoreError, SpecError), "sweep"),)
