"""The bill of materials and the page of licences are those of what is installed."""

from __future__ import annotations

import json

from experiments.planning.bill_of_materials import bill, packages, page
from tests.support.paths import ROOT

COMMAND = "run python -m experiments.planning.bill_of_materials (its docstring says where to)"


def test_both_are_current() -> None:
    assert json.loads((ROOT / "sbom.cdx.json").read_text()) == bill(), COMMAND
    assert (ROOT / "docs" / "reference" / "licences.md").read_text() == page() + "\n", COMMAND


def test_every_package_of_the_lock_says_its_licence() -> None:
    found = packages()
    assert len(found) == (ROOT / "requirements.lock").read_text().count("==")
    assert [name for name, _, licence in found if licence == "not said"] == []
