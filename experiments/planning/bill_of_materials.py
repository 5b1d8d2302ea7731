"""What the Python environment consists of: a CycloneDX bill of materials, and its licences as a page.

    python -m experiments.planning.bill_of_materials > sbom.cdx.json
    python -m experiments.planning.bill_of_materials --page > docs/reference/licences.md

Names and versions are those of requirements.lock, licences what each installed package says of itself.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[2] / "requirements.lock"
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)", re.MULTILINE)
LONGEST_NAME = 60
"""Of a licence: some packages give its whole text."""

PAGE = """# Licences of what the environment holds

{count} Python packages, as `requirements.lock` pins them; `sbom.cdx.json` (CycloneDX 1.5) is the list for machines.
Both are printed by `python -m experiments.planning.bill_of_materials`, and a test holds them current. A licence is what
the package says of itself. Debian's packages, which `provision.sh` names, have theirs in `/usr/share/doc/*/copyright`.

| licence | packages |
|---|---|
{kinds}

| package | version | licence |
|---|---|---|
{rows}
"""


def packages(lock: Path = LOCK) -> list[tuple[str, str, str]]:
    """Name, version and licence of each package of the lock, by name. PackageNotFoundError for one not installed."""
    found = []
    for name, version in PIN.findall(lock.read_text(encoding="utf-8")):
        if metadata(name)["Version"] != version:
            raise PackageNotFoundError(f"{name} {version}")
        found.append((name, version, licence_of(name)))
    return sorted(found, key=lambda one: one[0].lower())


def licence_of(package: str) -> str:
    """What an installed package says of its licence, in a few words; "not said" where it says nothing."""
    fields = metadata(package)
    if "License-Expression" in fields:
        return fields["License-Expression"]
    stated = " ".join(fields["License"].split()) if "License" in fields else ""
    classified = [
        name.rpartition(" :: ")[2]
        for name in fields.get_all("Classifier") or []
        if name.startswith("License ::") and not name.endswith("DFSG approved")
    ]
    if stated and len(stated) <= LONGEST_NAME:
        return stated
    return ", ".join(classified) or "not said"


def bill() -> dict[str, Any]:
    """The bill of materials as plain data."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "netkv-testbed"}},
        "components": [
            {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}",
                "licenses": [{"license": {"name": licence}}],
            }
            for name, version, licence in packages()
        ],
    }


def page() -> str:
    """The licences as a page of Markdown."""
    found = packages()
    kinds = Counter(licence for _, _, licence in found)
    return PAGE.format(
        count=len(found),
        kinds="\n".join(f"| {name} | {count} |" for name, count in sorted(kinds.items(), key=lambda one: -one[1])),
        rows="\n".join(f"| {name} | {version} | {licence} |" for name, version, licence in found),
    )


if __name__ == "__main__":
    print(page() if "--page" in sys.argv else json.dumps(bill(), indent=1))
