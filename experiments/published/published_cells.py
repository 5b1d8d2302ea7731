"""The cells of the paper's tables and figures, and what is known of its set-up, read from `cells.json` beside this.

Policies have the names of this project's registry: what the paper calls NetKV-Full is `paper_full`, its steps before
that `paper_static` and `paper_self_contention`. Figure 4 calls the first step Topo-Only, Table 4 Static; they are taken
for the same one (I).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

HOW_KNOWN: Mapping[str, str] = {
    "P": "read off the paper's tables and plots",
    "S": "a third party's summary of the paper",
    "C": "third parties' re-implementations",
    "I": "inferred in this project",
}


@dataclass(frozen=True)
class PublishedCell:
    """One number of a table or figure.

    `condition`: what it holds for (`workload`, `load_percent`, `gpus`, ...); what is not named has the paper's default.
    `against`: the policy that a change is from; empty for an absolute number, and where the paper does not say. `unit`:
    of `value` and `half_width`. `half_width`: of the interval as printed; the paper does not say of which level.
    `known`: a letter of `HOW_KNOWN`. `read_off_plot`: measured in a plot, good to about 1 % of its axis.
    """

    table: str
    condition: Mapping[str, str | float]
    policy: str
    quantity: str
    unit: str
    value: float
    known: str
    half_width: float | None = None
    against: str = ""
    read_off_plot: bool = False


@dataclass(frozen=True)
class PublishedFact:
    """A number of the paper's set-up. `known`: letters of `HOW_KNOWN`; `why`: what it means or follows from."""

    name: str
    value: float
    unit: str
    known: str
    why: str


def published_cells(table: str = "") -> tuple[PublishedCell, ...]:
    """The cells of a table or figure ("Table 2", "Figure 1"), in its order; of all of them if none is named.

    ValueError when nothing of that name was published.
    """
    cells = tuple(PublishedCell(**cell) for cell in _document()["cells"])
    found = tuple(cell for cell in cells if not table or cell.table == table)
    if not found:
        raise ValueError(f"{table!r} is not one of {', '.join(dict.fromkeys(cell.table for cell in cells))}")
    return found


def published_facts() -> dict[str, PublishedFact]:
    """What is known of the set-up, by name."""
    return {fact["name"]: PublishedFact(**fact) for fact in _document()["facts"]}


def published_source() -> str:
    """Which version of the paper was read, and when."""
    return str(_document()["source"])


@cache
def _document() -> Any:
    return json.loads((files("experiments.published") / "cells.json").read_text(encoding="utf-8"))
