"""The command line in a folder full of traps: what it refuses, in which words, and what it leaves behind."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.support.paths import ROOT

REQUEST = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n'
BAD_LINE = REQUEST.replace("600", '"many"')

FILES: dict[str, str | bytes] = {
    "good.jsonl": REQUEST,
    "empty.jsonl": "",
    "junk.jsonl": b"\x80\x81\x82\n",
    "line.jsonl": REQUEST + BAD_LINE,
    "nan.jsonl": REQUEST.replace("0,", "NaN,", 1),
    "digits.jsonl": REQUEST.replace("600", "9" * 5000),
    "lfs.jsonl": "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 27900000\n",
    "page.jsonl": "<!DOCTYPE html>\n<html></html>\n",
    "late.jsonl": REQUEST + REQUEST.replace("0,", "1e14,", 1),
    "cut.jsonl.gz": gzip.compress(REQUEST.encode() * 999)[:40],
    "plain.jsonl.gz": REQUEST,
    "broken.yaml": "seed: 1\nfabric: [\n",
    "list.yaml": "- seed\n- 1\n",
    "scalar.yaml": "seed\n",
    "binary.yaml": b"\xff\xfe\x00",
    "nul.yaml": b"seed: \x00\n",
    "date.yaml": "seed: 2024-99-99\n",
    "digits.yaml": f"seed: {'9' * 5000}\n",
    "deep.yaml": f"seed: {'[' * 1500}\n",
    "ouroboros.yaml": "fabric: &it {pods: *it}\n",
    "keys.yaml": "1: 2\n",
    "bomb.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefgh")),
    "tag.yaml": "seed: !!int ''\n",
    "twice.yaml": "seed: 1\npolicy: cla\nseed: 2\n",
    "twice.jsonl": REQUEST.replace("0,", '0, "timestamp": 5,', 1),
    "long.yaml": "#" * 300_000,
    "field.yaml": "fabric:\n  podz: 2\n",
    "pods.yaml": "fabric:\n  pods: 2.5\n",
    "file": "",
}


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


class CommandLine:
    """`netkv` in a folder, by a server that has imported it already."""

    def __init__(self, server: subprocess.Popen[str], folder: Path, notes: Path) -> None:
        """`notes` is where its two outputs are written to."""
        self._server, self._folder, self._notes = server, folder, notes

    def __call__(self, *arguments: str, user: int | None = None) -> Said:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        out, err = self._notes / "out", self._notes / "err"
        task = {"arguments": arguments, "cwd": str(self._folder), "out": str(out), "err": str(err), "user": user}
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return Said(code, out.read_text(), err.read_text())


@contextmanager
def cli_server() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests/support/cli_server.py")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


def fill(folder: Path) -> None:
    """Make a working folder with a file of every kind of badness."""
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "taken").mkdir()
    (folder / "taken" / "thesis.txt").write_text("years of work")
    (folder / "dangling").symlink_to("nowhere")


def everything_in(folder: Path) -> dict[str, bytes | None]:
    return {
        str(place.relative_to(folder)): place.read_bytes() if place.is_file() else None
        for place in sorted(folder.rglob("*"))
    }


def refused(said: Said) -> str:
    """The one line that a refusal is."""
    assert "Traceback" not in said.err, said.err
    assert said.code == 2, said
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert len(lines[0]) < 400, said.err
    return lines[0].removeprefix("netkv: ")


RUN = ("run", "--world", "analytic")
SWEEP = ("sweep", "staleness", "--world", "analytic", "--out", "new")
A_LONG_NAME = "a" * 300
