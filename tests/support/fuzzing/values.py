"""Broken values, broken texts and broken bytes, by a random generator: what the cases of every target are made of."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 7, 512, 513, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1, 1 << 64, 10**30, 10**400),
    *(0.0, -0.0, 0.5, 1.5, 5e-324, 1e-9, 1e15, 1e16, 1e19, 1e22, 1e300, 1e308),
    *(float("nan"), float("inf"), float("-inf"), 1.7e12, 1_700_000_000, 1_700_000_000_123),
)
TEXTS = (
    "",
    "x",
    "nan",
    "inf",
    "1e400",
    "0x",
    "\x00",
    "\ud800",
    "\u2028",
    "a\nb",
    "é" * 70,
    "9" * 5000,
    "[" * 2000,
    "null",
)
TOKENS = (
    *(b"", b"\n", b"\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b",", b":", b'"', b"'", b"\\", b"{", b"}", b"[", b"]"),
    *(b"{}", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"9" * 5000, b"[" * 3000, b'{"a":' * 1500),
    *(b"\\ud800", b"&a ", b"*a", b"!!int ''", b"!!bool x", b"!!timestamp x", b"!!python/name:os.system", b"<<: *a"),
    *(b"? ", b"- ", b"---\n", b"%YAML 9.9\n", b"2024-99-99", b"0x_", b"0b_", b"1:99", b"|\n", b">\n", b"\t", b"~"),
    *(b"=", b"!!set {a}", b"!!binary x"),
)


def number(rng: random.Random) -> Any:
    return rng.choice(NUMBERS) if rng.random() < 0.7 else rng.choice((rng.randrange(-5, 5000), rng.uniform(-1, 1e6)))


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any value that JSON may hold, mostly a wrong one."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return number(rng)
    if kind == 2:
        return rng.choice(TEXTS)
    if kind < 5:
        return rng.choice((None, True, False))
    if kind == 5:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 6:
        return {rng.choice(TEXTS): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return nested(rng.choice((30, 400, 900)))


def nested(depth: int) -> Any:
    """An empty list in lists."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


def damaged(rng: random.Random, document: Any) -> Any:
    """A copy of a document in which one place or a few hold something else, or are missing."""
    copy = json.loads(json.dumps(document))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        copy = _damaged_once(rng, copy)
    return copy


def _damaged_once(rng: random.Random, document: Any) -> Any:
    at, above, key = document, None, None
    while isinstance(at, (dict, list)) and at and (above is None or rng.random() < 0.7):
        above, key = at, rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        at = at[key]
    if above is None or key is None:
        return value(rng)
    action = rng.randrange(5)
    if action == 0:
        del above[key]
    elif action == 1 and isinstance(above, dict):
        above[rng.choice(TEXTS)] = value(rng)
    else:
        above[key] = value(rng)
    return document


def written(rng: random.Random, document: Any) -> bytes:
    """A document as JSON, where one name may be there twice."""
    try:
        text = json.dumps(document, ensure_ascii=rng.random() < 0.9)
    except (ValueError, RecursionError):  # thousands of digits, or nested deeper than can be written
        text = "{}"
    if rng.random() < 0.05:
        text = text.replace("{", '{"timestamp": 1, "timestamp": 2, ', 1)
    return text.encode("utf-8", "surrogatepass")


def mutated(rng: random.Random, data: bytes, tokens: Sequence[bytes] = TOKENS) -> bytes:
    """Bytes with a few of them cut, changed, moved, or with tokens put between."""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4, 8))):
        at, to = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        action = rng.randrange(6)
        if action == 0:
            data = data[:at]
        elif action == 1 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif action == 2:
            data = data[:at] + rng.choice(tokens) + data[at:]
        elif action == 3 and to - at < 10_000:
            data = data[:to] + data[at:to] * rng.choice((1, 1, 50)) + data[to:]
        elif action == 4:
            data = data[:at] + data[to:]
        else:
            data = data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
        data = data[:300_000]
    return data
