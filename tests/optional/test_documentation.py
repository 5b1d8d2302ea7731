"""The site and the archive: built by their own tools, which `make docs` fetches from PyPI.

    .venv/bin/pytest tests/optional/test_documentation.py

The archive is of the commit that is checked out, so the work tree must be clean.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = [pytest.mark.optional, pytest.mark.timeout(900)]

SITE = ROOT / "build" / "docs" / "html"
ARCHIVE = ROOT / "build" / "artifact" / "netkv-artifact.tar.gz"


def make(target: str) -> None:
    done = subprocess.run(["make", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_site_has_every_page_and_every_command() -> None:
    make("docs")
    pages = {path.relative_to(ROOT).with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert [page for page in sorted(pages) if not (SITE / page).is_file()] == []
    assert "--watch" in (SITE / "from-code" / "commands.html").read_text()
    assert "FluidNetwork" in (SITE / "from-code" / "simulator.html").read_text()


def test_the_archive_is_the_same_twice_and_says_what_it_holds() -> None:
    digests = []
    for _ in range(2):
        make("artifact")
        digests.append(hashlib.sha256(ARCHIVE.read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    with tarfile.open(ARCHIVE) as archive:
        names = {Path(name).relative_to("netkv-artifact").as_posix() for name in archive.getnames()}
        listing = archive.extractfile("netkv-artifact/SHA256SUMS")
        assert listing is not None
        summed = {line.split("  ./")[1] for line in listing.read().decode().splitlines()}
    assert {"README.md", "COMMIT", "LICENSE", "Makefile", "sbom.cdx.json", "site/README.html"} <= summed
    assert summed <= names
