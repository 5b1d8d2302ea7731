"""Targets that are files: traces, specifications and settings."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pyarrow import parquet

from experiments.running import SpecError, parse_settings, read_spec
from experiments.running.run_spec import RunSpec, make_spec
from tests.support.fuzzing.target import FaultError, Target, check_message
from tests.support.fuzzing.values import TEXTS, damaged, mutated, value, written
from workloads import Trace, WorkloadError, count_requests, read_trace, report_on_trace

RECORD = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
CHAT = {
    "chat_id": 1,
    "parent_chat_id": -1,
    "timestamp": 0.5,
    "input_length": 40,
    "output_length": 5,
    "hash_ids": [1, 2],
}
TURN = {"session_id": "s", "delay": 5, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
"""Of a session; the first one has no turn to wait for."""
AZURE = ("TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:00:04.25,400,12")
BURSTGPT = ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", "5,ChatGPT,400,12,412,API")
VIDUR = ("arrived_at,num_prefill_tokens,num_decode_tokens", "4.25,400,12")
TOKENS = {"input_toks": 40, "output_toks": 5, "arrival_time_ns": 1.0, "input_tok_ids": [*range(40)]}
BENCH_SERVE = {"start_times": [1.5, 2.5], "input_lens": [400, 9], "output_lens": [12, 1]}
CELLS = (
    *("", "0", "-1", "nan", "inf", "1e400", "9" * 5000, "0001-01-01", "9999-12-31T23:59:59-23:59", '"', '"a\nb"', "x"),
    *("1970-01-01T00:00:00+23:59", "2024-02-30", "9999-12-31 23:59:59", "1_0", " 7 ", "é", "2023-W01-1"),
)
DEFAULTS = RunSpec.model_construct().model_dump(mode="json", warnings=False)
SPEC_SNIPPETS = (
    "fabric: &a {pods: 2}\nserving: *a\n",
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nseed: [*c,*c,*c,*c]\n",
    "fabric: &a {x: &b {y: &c {z: 1}}}\nworkload: {<<: *a, p: *b, q: *c}\n",
    "".join(f"k{n}: &k{n} {{a: *k{n - 1}, b: *k{n - 1}}}\n" if n else "k0: &k0 {a: 1}\n" for n in range(40)),
    "seed: 1\nseed: 2\n", "fabric: &it {pods: *it}\n", "? [a]\n: b\n", "seed: !!int ''\n", "policy: !!bool maybe\n",
    "seed: !!timestamp x\n", "seed: 0x_\n", "seed: !!float '1:'\n", "policy: |\n  a\n  b\n", "seed: 1\n---\nseed: 2\n",
    "policy: !!binary '////'\n", "{seed: 1, policy: [" + "[" * 400 + "]" * 400 + "]}\n", "policy: a\tb\n",
    "workload: {trace: /dev/zero}\n", "workload: {trace: /proc/self/mem}\n", "<<: 1\n", "<<: [1]\n", "!!set {seed}\n",
)  # fmt: skip


def make_trace(rng: random.Random) -> bytes:
    kind = rng.randrange(7)
    if kind == 6:
        return mutated(rng, _parquet(rng)) if rng.random() < 0.3 else _parquet(rng)
    if kind == 5:
        return written(rng, damaged(rng, BENCH_SERVE) if rng.random() < 0.7 else BENCH_SERVE)
    if kind < 3:
        base = rng.choice((CHAT, TOKENS)) if kind == 2 else rng.choice((RECORD, RECORD, TURN))
        records = [
            damaged(rng, {**base, "timestamp": 1000 * k}) if rng.random() < 0.4 else base
            for k in range(rng.randrange(1, 6))
        ]
        if base is TURN and rng.random() < 0.8:
            records[0] = {**base, "timestamp": 0}
        lines = [written(rng, record) for record in records]
        data = b"[" + b",".join(lines) + b"]" if kind == 1 else b"".join(line + b"\n" for line in lines)
    else:
        header, row = AZURE if kind == 3 else rng.choice((BURSTGPT, VIDUR))
        rows = [row.split(",") for _ in range(rng.randrange(1, 5))]
        for cells in rows:
            if rng.random() < 0.6:
                cells[rng.randrange(len(cells))] = rng.choice(CELLS)
        data = "\n".join([header, *(",".join(cells) for cells in rows)]).encode()
    if rng.random() < 0.6:
        data = mutated(rng, data)
    return _packed(rng, data)


def _parquet(rng: random.Random) -> bytes:
    """A table of one of the formats whose cells are of one type a column, in Parquet."""
    names = rng.choice((AZURE, BURSTGPT, VIDUR))[0].split(",") if rng.random() < 0.6 else [*RECORD]
    columns: dict[str, list[Any]] = {
        name: [rng.choice((0, 5, None, -1, 2.5, 1e300, float("nan")))] * 3 for name in names
    }
    if rng.random() < 0.5:
        columns |= {name: ["x", "2023-11-16 18:00:04", None] for name in rng.sample(names, 1)}
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def _packed(rng: random.Random, data: bytes) -> bytes:
    how = rng.randrange(8)
    if how == 0:
        data = gzip.compress(data, 1)
    elif how == 1:
        packed = io.BytesIO()
        with pa.CompressedOutputStream(packed, "zstd") as stream:
            stream.write(data)
            stream.flush()
            data = packed.getvalue()
    elif how == 2:
        data = data.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
    return mutated(rng, data) if how < 2 and rng.random() < 0.7 else data


def read_as_trace(folder: Path, case: bytes) -> None:
    path = folder / "trace"
    path.write_bytes(case)
    report = report_on_trace(path)
    with Trace(path, sort_all=True) as trace:
        again = sum(1 for _ in trace)
        notes = trace.notes()
    if not again == len(read_trace(path)) == report.requests:
        raise FaultError(f"{again} requests sorted, {report.requests} as they are")
    if count_requests(path, 1 << 20) < again:
        raise FaultError("counts fewer lines than requests")
    for note in (*notes, *report.warnings):
        check_message(note, "trace")


def make_spec_text(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        text = "".join(rng.choice(SPEC_SNIPPETS) for _ in range(rng.choice((1, 1, 2))))
    else:
        section = rng.choice(sorted(DEFAULTS))
        fields = damaged(rng, {section: DEFAULTS[section]})
        try:
            text = yaml.safe_dump(fields) if rng.random() < 0.5 else json.dumps(fields, ensure_ascii=False)
        except (ValueError, RecursionError):
            text = "seed: " + "[" * 5000
    data = text.encode("utf-8", "surrogatepass")
    return mutated(rng, data) if rng.random() < 0.5 else data


def read_as_spec(folder: Path, case: bytes) -> None:
    path = folder / "spec.yaml"
    path.write_bytes(case)
    read_spec(path, {})


def make_setting(rng: random.Random) -> bytes:
    section = rng.choice(sorted(DEFAULTS))
    inner = DEFAULTS[section]
    name = f"{section}.{rng.choice(sorted(inner))}" if isinstance(inner, dict) and inner else section
    text = rng.choice((name, name, name, rng.choice(TEXTS), "a." * 300, name + "."))
    given = rng.choice(
        (written(rng, value(rng)).decode("utf-8", "surrogatepass"), rng.choice(TEXTS), rng.choice(SPEC_SNIPPETS))
    )
    data = f"{text}={given}".encode("utf-8", "surrogatepass")
    return mutated(rng, data) if rng.random() < 0.4 else data


def read_as_setting(_: Path, case: bytes) -> None:
    text = case.replace(b"\0", b"").decode("utf-8", "surrogateescape")  # as an argument of a process
    make_spec({}, {"world": "analytic", **parse_settings([text])})


FILE_TARGETS = (
    Target("trace", make_trace, read_as_trace, (WorkloadError,), "trace"),
    Target("spec", make_spec_text, read_as_spec, (SpecError,), "spec.yaml"),
    Target("setting", make_setting, read_as_setting, (SpecError,)),
)
