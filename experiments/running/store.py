"""Run folders: written whole or not at all, even if the power fails, and read back with pandas."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from experiments.running.bench_serve import arrays_of, set_up_of
from experiments.running.columns import Columns, Table, columns_of, parquet_bytes
from experiments.running.errors import StoreError
from experiments.running.machine import describe_machine, git_commit, versions
from experiments.running.ownership import hand_over, make_folders
from experiments.running.run_spec import RunSpec, complaint
from experiments.running.summary import summarise
from experiments.running.token_times import Gaps, TokenTimes, simulated_gaps, simulated_times, times_of_gaps
from scheduler import Decision
from serving import RETRIED, Outcome, RequestRecord

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("requests", "decisions", "links")
FAULTS = "faults"
"""The table of what broke; only a run with faults has one."""
LINK_COLUMNS = ("time_s", "link", "utilisation", "bytes")

PATHS = "paths"
"""The table of connections and the links they crossed; only a world that can tell has one."""

SNAPSHOTS = "snapshots"
"""The table of the telemetry documents that the scheduler read; only an emulated run has one."""

PCAP = "pcap"
"""The folder of captures; only runs that were asked for them have one."""

MEASURED = "measured"
"""What only the wall clock knows of an analytic run has a file of its own; all others depend on the spec alone."""

MOST_JSON_BYTES, MOST_TABLE_BYTES = 1 << 28, 1 << 34
"""Of a file that is read back: the summary of 400,000 requests with all arrays has 200 MB."""

LONGEST_PREFIX = 40
"""Characters of a run's name in that of its unfinished folder, so that the latter is no longer than a name may be."""

PARTIAL = ".partial-"
"""In the name of a folder that is being written; it starts with a dot, so nobody takes it for a run."""


def write_run(
    out: Path,
    spec: RunSpec,
    outcome: Outcome,
    verdict: Mapping[str, Any],
    captures: Path | None = None,
    *,
    detailed: bool = False,
) -> dict[str, Any]:
    """Write a run's folder beside its place and move it there in one step. Returns the summary.

    What is in the folder `captures` goes into its folder `pcap`. `detailed`: the summary has vLLM's arrays, too.
    StoreError when `out` is there already (an empty folder may be) or cannot be written.
    """
    files = render_run(spec, outcome, verdict, detailed=detailed)
    write_files(out, files, {} if captures is None else {PCAP: captures})
    summary: dict[str, Any] = json.loads(files["summary.json"])
    return summary


def render_run(
    spec: RunSpec, outcome: Outcome, verdict: Mapping[str, Any], *, detailed: bool = False
) -> dict[str, bytes]:
    """The files of a run's folder by name, as data: the run can have been made on another machine."""
    tables: dict[str, Columns] = {
        "requests": {
            item.name: [getattr(record, item.name) for record in outcome.requests] for item in fields(RequestRecord)
        },
        "decisions": columns_of(outcome.decisions, [item.name for item in fields(Decision)]),
        "links": {name: [sample[name] for sample in outcome.links] for name in LINK_COLUMNS},
    }
    optional = {PATHS: outcome.paths, FAULTS: outcome.faults, SNAPSHOTS: outcome.snapshots}
    tables |= {name: columns_of(rows) for name, rows in optional.items() if rows}
    requests = tables["requests"]
    summary = set_up_of(spec, requests) | summarise(
        requests,
        outcome.token_gaps_ms,
        outcome.duration_s,
        spec.slo,
        outcome.token_gap_counts,
        tables["decisions"],
        _token_times(spec, outcome, requests),
    )
    if detailed:
        summary |= arrays_of(requests, request_gaps_ms(spec, requests, outcome.request_gaps_ms))
    evidence = dict(outcome.evidence)
    measured = evidence.pop(MEASURED, None)
    manifest = {
        "spec": spec.model_dump(mode="json"),
        "world": spec.world,
        "seed": spec.seed,
        "verdict": verdict["verdict"],
        "verdict_reasons": verdict["reasons"],
        "verdict_worst": verdict.get("worst"),
        "faults": outcome.faults,
        "evidence": evidence,
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": describe_machine(),
    }
    files = {f"{name}.parquet": parquet_bytes(table) for name, table in tables.items()}
    files["summary.json"] = json_text(summary).encode()
    files["manifest.json"] = json_text(manifest).encode()
    if measured is not None:
        files[f"{MEASURED}.json"] = json_text(measured).encode()
    return files


def _token_times(spec: RunSpec, outcome: Outcome, requests: Columns) -> TokenTimes | None:
    """When tokens came; None for an analytic run that lost workers or tried requests again, whose batches the table of
    requests does not tell."""
    if spec.world == "emulated":
        return times_of_gaps(requests, outcome.request_gaps_ms)
    kinds = {fault["kind"] for fault in outcome.faults}
    if kinds & {"decode_worker_killed", "prefill_worker_killed"} or RETRIED in outcome.evidence:
        return None
    return simulated_times(requests, spec.model.step_s)


def request_gaps_ms(spec: RunSpec, requests: Table, measured: Gaps) -> Gaps:
    """The gaps between the tokens of each request, ms: as measured; of an analytic run, worked out from the table."""
    return simulated_gaps(requests, spec.model.step_s) if spec.world == "analytic" else measured


def write_files(out: Path, files: Mapping[str, bytes], folders: Mapping[str, Path] = MappingProxyType({})) -> None:
    """Write a folder of these files beside its place, with copies of `folders` in it, and move it there in one step.

    StoreError as `write_run`.
    """
    with new_folder(out) as partial:
        for name, content in files.items():
            (partial / name).write_bytes(content)
        for name, folder in folders.items():
            shutil.copytree(folder, partial / name).chmod(0o755)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` in one step at the end of the context, or vanishes if that fails.

    What it holds is on the disk before that step, so a power cut leaves all of it under that name, or nothing.
    StoreError when `out` is there already (an empty folder may be) or cannot be written.
    """
    check_free(out)
    place = Path(os.path.abspath(out))  # `.` has a parent too
    try:
        make_folders(place.parent)
        prefix = f".{place.name[:LONGEST_PREFIX]}"
        sweep_away_partial(place.parent, prefix)
        with partial_folder(place.parent, prefix) as partial:
            yield partial
            partial.chmod(0o755)
            for entry in (*sorted(partial.rglob("*")), partial):
                sync(entry)
            hand_over(partial)
            os.rename(partial, place)
            sync(place.parent)
    except OSError as problem:
        raise StoreError(f"{out}: {problem.strerror or problem}") from None


@contextmanager
def partial_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A hidden folder that vanishes at the end of the context unless it got another name. OSError.

    It is locked: what the kernel has unlocked, because its process was killed, may be swept away.
    """
    partial = Path(tempfile.mkdtemp(prefix=f"{prefix}{PARTIAL}", dir=parent))
    handle = None
    try:
        handle = os.open(partial, os.O_RDONLY)
        with suppress(OSError):  # a shared file system that has no locks
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill, whose files move into `folder` at the end of the context, over those of their names.

    Each is on the disk before it gets its name, so what is there is whole: the new file, or the one before it. Where
    the context fails none is moved. StoreError when they cannot be written.
    """
    try:
        with partial_folder(folder, ".files") as partial:
            yield partial
            files = sorted(partial.iterdir())
            for file in files:
                sync(file)
            hand_over(partial)
            for file in files:
                file.rename(folder / file.name)
            sync(folder)
    except OSError as problem:
        raise StoreError(f"{folder}: {problem.strerror or problem}") from None


def check_new_file(place: Path) -> None:
    """StoreError unless a file can be written to `place`: nothing is there, and one may write."""
    if os.path.lexists(place):
        raise StoreError(f"{place}: is there already; nothing was overwritten (choose another name or remove it)")
    check_writable(Path(os.path.abspath(place)).parent, place)


def write_new_file(place: Path, text: str) -> None:
    """Write a file where nothing is, with the folders that hold it. StoreError as `check_new_file`."""
    check_new_file(place)
    try:
        make_folders(place.parent)
        with place.open("x", encoding="utf-8") as file:
            file.write(text)
        hand_over(place)
    except OSError as problem:
        raise StoreError(f"{place}: {problem.strerror or problem}") from None


def sweep_away_partial(parent: Path, prefix: str = "") -> list[Path]:
    """Remove the unfinished folders that killed writers have left in a folder, and name them.

    With `prefix` only those that were made with it. What somebody is still writing is left alone.
    """
    removed = []
    for left in sorted(parent.glob(f".*{PARTIAL}*")):
        if left.name.startswith(f"{prefix}{PARTIAL}" if prefix else ".") and _is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
            removed.append(left)
    return removed


def _is_abandoned(partial: Path) -> bool:
    try:
        handle = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # its writer lives, or this file system has no locks and nobody can tell
    finally:
        os.close(handle)
    return True


def sync(place: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk (fsync(2)). OSError when it is not."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno != errno.EINVAL or not place.is_dir():  # some shared file systems cannot for a folder
            raise
    finally:
        os.close(handle)


def check_free(out: Path) -> None:
    """StoreError unless a run can be written to `out`: nothing is there, or an empty folder, where one may write.

    To be asked before a run, which can take minutes, rather than after it.
    """
    if is_taken(out):
        raise StoreError(f"{out}: is there already; nothing was overwritten (choose another --out or remove it)")
    check_writable(Path(os.path.abspath(out)).parent, out)


def is_taken(out: Path) -> bool:
    """Whether something other than an empty folder is at `out`. StoreError when one may not even look."""
    try:
        if out.is_symlink() or not out.is_dir():
            return out.is_symlink() or out.exists()
        return any(out.iterdir())
    except OSError as problem:
        raise StoreError(f"{out}: {problem.strerror}") from None


def check_writable(folder: Path, out: Path) -> None:
    """StoreError about `out` unless `folder` is one that may be written in, or could be made."""
    home = next(place for place in (folder, *folder.parents) if place.exists())
    if not home.is_dir():
        raise StoreError(f"{out}: {home} is a file, not a folder")
    if os.statvfs(home).f_flag & os.ST_RDONLY:
        raise StoreError(f"{out}: {home} is mounted read-only (choose another place)")
    if not os.access(home, os.W_OK | os.X_OK):
        raise StoreError(f"{out}: no permission to write in {home}")


def is_run(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder. StoreError when it is none."""
    manifest = read_json(folder, "manifest.json")
    for name in ("spec", "verdict"):
        if name not in manifest:
            raise StoreError(f"{folder}: manifest.json is damaged: {name} is missing")
    return manifest


def spec_of(folder: Path, manifest: Mapping[str, Any]) -> RunSpec:
    """The specification in the manifest of a run folder. StoreError when it is none that this version knows."""
    try:
        return RunSpec.model_validate(manifest["spec"])
    except ValidationError as problem:
        raise StoreError(
            f"{folder}: manifest.json: spec: {complaint(problem)}; of another version, or damaged: make the run again"
        ) from None


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run folder. StoreError when it is none."""
    return read_json(folder, "summary.json")


def read_table(folder: Path, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """One table of a run folder: `requests`, `decisions`, `links`, `paths` or `snapshots`; all of it, or these columns.

    StoreError when it is none.
    """
    import pandas as pd  # takes longer to load than all else, and who only writes does not need it

    try:
        check_is_file(folder / f"{table}.parquet", MOST_TABLE_BYTES)
        return pd.read_parquet(folder / f"{table}.parquet", columns=None if columns is None else list(columns))
    except (OSError, ValueError, NotImplementedError) as problem:
        raise StoreError(f"{folder}: not a run folder: {table}.parquet: {problem}") from None


def read_json(folder: Path, name: str, kind: str = "run folder") -> dict[str, Any]:
    """A JSON object of a folder of some kind. StoreError when it is none, or the object is damaged."""
    try:
        check_is_file(folder / name, MOST_JSON_BYTES)
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError as problem:
        raise StoreError(f"{folder}: not a {kind}: {name}: {problem.strerror or problem}") from None
    except ValueError as problem:
        raise StoreError(f"{folder}: {name} is damaged: {problem}") from None
    except RecursionError:
        raise StoreError(f"{folder}: {name} is damaged: nested too deep") from None
    if not isinstance(found, dict):
        raise StoreError(f"{folder}: {name} is damaged: not an object")
    return found


def check_is_file(path: Path, most_bytes: int) -> None:
    """OSError unless a path is an ordinary file of at most so many bytes: a pipe in its place would not end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("an ordinary file was expected")
    if found.st_size > most_bytes:
        raise OSError(f"{found.st_size >> 20:,} MiB, at most {most_bytes >> 20} were expected")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Strict JSON in a file, as `json_text`."""
    path.write_text(json_text(document), encoding="utf-8")


def json_text(document: Mapping[str, Any]) -> str:
    """Strict JSON, keys in order: what it has no word for, a number that is not finite, becomes null."""
    return json.dumps(strict(document), indent=1, sort_keys=True, default=str, allow_nan=False) + "\n"


def strict(value: Any) -> Any:
    """What JSON has no word for, a number that is not finite, as null; numpy's numbers as plain ones."""
    if isinstance(value, Mapping):
        return {name: strict(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(inner) for inner in value]
    if isinstance(value, np.generic):
        return strict(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
