"""Tests of one `xdist_group` run one after another on one processor, by how pytest-xdist deals its work.

pytest-xdist 3.8 writes the group into a private field of each test, which pytest 9.2 reads no longer: by itself
`--dist loadgroup` keeps nothing together, and what a module makes once is made on every processor.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadGroupScheduling

from tests.support.paths import ROOT

MARK = re.compile(r'^pytestmark = pytest\.mark\.xdist_group\("([^"]+)"\)$', re.MULTILINE)
"""A module's group; `tests/unit/test_architecture.py` asserts that every group is named so."""


class GroupScheduling(LoadGroupScheduling):
    """Deals whole groups first, those of most tests ahead, then single tests, which fill what is left of the time."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0]) or nodeid


@cache
def group_of(file: str) -> str:
    """The group of a module, by its path from the root of the project; empty if it has none."""
    found = MARK.search(Path(ROOT, file).read_text(encoding="utf-8"))
    return found[1] if found else ""
