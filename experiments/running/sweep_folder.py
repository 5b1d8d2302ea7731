"""The folder of a sweep: what it is for, who may write to it, and which of its runs are there.

`sweep.json` describes the sweep. While somebody adds runs, `.lock` is there and locked (flock(2)), so that two
processes never work on one folder; the kernel unlocks it with the end of a process, however that ended.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import reprlib
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from experiments.running.code_identity import difference_of_code
from experiments.running.errors import SpecError, StoreError
from experiments.running.ownership import hand_over, make_folders
from experiments.running.store import (
    check_writable,
    is_run,
    is_taken,
    partial_folder,
    read_json,
    sweep_away_partial,
    sync,
)

RUNS = "runs"
DESCRIPTION = "sweep.json"
UNFINISHED = ".sweep.json"
LOCK = ".lock"
CODE = "code"
"""Key of the description: the code that made the runs, which `code_identity` tells."""

OWN = "policies"
"""Key of the description: digests of the modules of users' own policies, where there are any."""


@contextmanager
def hold(out: Path, description: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
    """Begin the sweep of `description` in `out`, or continue it; nobody else writes there during the context.

    A sweep that ends without a single run leaves nothing. StoreError when `out` holds something else, or something and
    `resume` is not set, or another process works on it; SpecError when it holds another sweep, or one that other code
    began and that is not complete.
    """
    _check_place(out, resume)
    with ExitStack() as undo:
        try:
            _take(out, description, resume, undo)
        except OSError as problem:
            raise StoreError(f"{out}: {problem.strerror or problem}") from None
        yield


def _take(out: Path, description: Mapping[str, Any], resume: bool, undo: ExitStack) -> None:
    for folder in reversed([folder for folder in (out, *out.parents) if not folder.exists()]):
        undo.callback(_remove_empty, folder)
    make_folders(out)
    lock = undo.enter_context(_locked(out))
    undo.callback(_remove_lock, lock.name)
    if (out / DESCRIPTION).exists():
        _check_place(out, resume)  # another process may have begun, and ended, since
        _check_same(read_description(out), description, out)
    else:
        undo.callback(_forget_unless_begun, out, description["runs"])
        _write(description, out)
    for folder in (out, out / RUNS):
        sweep_away_partial(folder)


def _remove_lock(name: str) -> None:
    """While it is held, so that nobody holds one that is gone. It stays where the file system lets no open file be
    removed, as folders do that VirtualBox shares with Windows."""
    try:
        os.unlink(name)
    except OSError as problem:
        if problem.errno != errno.ETXTBSY:
            raise


@contextmanager
def scratch(out: Path) -> Iterator[None]:
    """The temporary files of this process and of local workers are in `out` during the context, in a hidden folder.

    In the system's own place nobody would remove what is left after SIGKILL; from here the next process that continues
    the sweep does.
    """
    before = tempfile.tempdir
    with partial_folder(out, ".scratch") as folder:
        tempfile.tempdir = os.path.abspath(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


def present(out: Path, names: Collection[str]) -> list[str]:
    """Those of some runs that are there."""
    return [name for name in names if is_run(out / RUNS / name)]


def read_description(out: Path) -> dict[str, Any]:
    """What a sweep's folder is for. StoreError when it is none."""
    found = read_json(out, DESCRIPTION, "sweep")
    if not isinstance(found.get("runs"), dict):
        raise StoreError(f"{out}: {DESCRIPTION} is damaged: not the description of a sweep")
    return found


def _check_same(before: Mapping[str, Any], after: Mapping[str, Any], out: Path) -> None:
    held, wanted = ({name: part for name, part in one.items() if name not in (CODE, OWN)} for one in (before, after))
    if held != wanted:
        raise SpecError(f"{out}: holds another sweep: {_difference(held, wanted)}")
    if len(present(out, after["runs"])) == len(after["runs"]):
        return  # nothing will be added to it
    if before.get(OWN) != after.get(OWN):
        edited = _difference(before.get(OWN, {}), after.get(OWN, {}), OWN)
        raise SpecError(f"{out}: was begun with another module, whose runs do not compare with new ones: {edited}")
    if changed := difference_of_code(before.get(CODE, {}), after[CODE]):
        raise SpecError(f"{out}: was begun with other code, whose runs do not compare with new ones: {changed}")


def _check_place(out: Path, resume: bool) -> None:
    """StoreError unless a sweep may be begun in `out`, or is there and may be continued."""
    left_by_the_killed = {LOCK, UNFINISHED}
    if is_taken(out) and not (out.is_dir() and set(os.listdir(out)) <= left_by_the_killed):
        if not resume:
            raise StoreError(f"{out}: is there already (add --resume to continue it, or choose another --out)")
        read_description(out)
    check_writable(Path(os.path.abspath(out)), out)


@contextmanager
def _locked(out: Path) -> Iterator[IO[str]]:
    """The lock of a folder. StoreError when somebody else has it."""
    with (out / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(lock.fileno()), os.stat(lock.name))
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            raise StoreError(f"{out}: another process is working on this sweep (wait for its end, or end it)")
        yield lock


def _write(description: Mapping[str, Any], out: Path) -> None:
    unfinished = out / UNFINISHED
    unfinished.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    sync(unfinished)
    hand_over(unfinished)
    unfinished.rename(out / DESCRIPTION)
    sync(out)


def _forget_unless_begun(out: Path, runs: Collection[str]) -> None:
    if present(out, runs):
        return
    for file in (out / UNFINISHED, out / DESCRIPTION):
        file.unlink(missing_ok=True)
    _remove_empty(out / RUNS)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something
        folder.rmdir()


def _difference(before: Any, after: Any, place: str = "") -> str:
    """The first place at which two descriptions differ, in words."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(set(before) | set(after)):
            inner = f"{place}.{key}" if place else str(key)
            if key not in before or key not in after:
                return f"{inner} is only in the {'new' if key not in before else 'old'} one"
            if before[key] != after[key]:
                return _difference(before[key], after[key], inner)
    return f"{place} was {reprlib.repr(before)}, now {reprlib.repr(after)}"
