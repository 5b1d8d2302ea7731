"""Lay the pages out for Sphinx: README and docs as they stand, and a reference made from the code.

    python docs/site/stage.py build/docs/source

Pages keep their places, so that every relative link of theirs is checked as it is; what else they link to is copied
beside them. A link to a folder is refused: a site has no folders to show.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)[^)\s]*\)")

PARTS = (
    ("Tutorials", "docs/tutorial"),
    ("How to", "docs/how-to"),
    ("Reference", "docs/reference"),
    ("From the code", "from-code"),
    ("Explanation", "docs/explanation"),
)
"""The parts of the site and the folder of each."""

PACKAGES = (
    *("topologies", "workloads", "scenario", "scheduler", "routers", "serving"),
    *("controller", "workers", "simulator", "testbed", "experiments"),
)


def main(arguments: list[str]) -> int:
    """Lay the pages out in the folder of the first argument, which is made anew."""
    out = Path(arguments[0]).resolve()
    shutil.rmtree(out, ignore_errors=True)
    for page in PAGES:
        _copy(page, out)
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            if not link.startswith(("http:", "https:", "mailto:")):
                _copy((page.parent / link).resolve(), out)
    _write_reference(out / "from-code")
    _write_notebook(out / "from-code")
    with (out / "README.md").open("a", encoding="utf-8") as readme:
        readme.write(_contents(out))
    return 0


def _copy(path: Path, out: Path) -> None:
    if path.is_dir():
        raise SystemExit(f"stage.py: a page links to the folder {path.relative_to(ROOT)}: link to a file of it")
    place = out / path.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place)


def _contents(out: Path) -> str:
    """The tables of contents that make the site's navigation, as the end of its first page."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    order = {f"docs/{link}": number for number, link in enumerate(LINK.findall(index))}
    first = ("docs/README", "docs/glossary", "docs/data/reference/README", "CONTRIBUTING", "CHANGELOG")
    blocks = []
    for title, folder in PARTS:
        pages = [path.relative_to(out).as_posix() for path in (out / folder).glob("*.md")]
        pages.sort(key=lambda name: (order.get(name, len(order)), name))
        blocks.append(_toctree(title, [name.removesuffix(".md") for name in pages]))
    return "\n".join(["", _toctree("This project", list(first)), *blocks])


def _toctree(title: str, pages: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])


def _write_reference(folder: Path) -> None:
    """Pages made from the code: every command with its options, the schemas, and the public names of each package."""
    from experiments.planning import spec_schema

    folder.mkdir()
    typer = (sys.executable, "-m", "typer", "experiments.cli", "utils", "docs")
    title = ("--title", "Every command and option", "--name", "netkv")
    subprocess.run([*typer, *title, "--output", str(folder / "commands.md")], cwd=ROOT, check=True, capture_output=True)
    (folder / "netkv.schema.json").write_text(json.dumps(spec_schema(), indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(ROOT / "controller" / "netkv.cost.v1.schema.json", folder / "netkv.cost.v1.schema.json")
    (folder / "schemas.md").write_text(
        "# JSON schemas\n\n"
        "- [netkv.schema.json](netkv.schema.json): a [specification](../docs/reference/specification.md)\n"
        "- [netkv.cost.v1.schema.json](netkv.cost.v1.schema.json): the [oracle's"
        " document](../docs/reference/netkv-cost-v1.md)\n",
        encoding="utf-8",
    )
    for package in (*PACKAGES, *_parts_of_experiments()):
        again = "   :no-index:\n" if package == "experiments" else ""  # whose names are those of its parts
        page = f"# `{package}`\n\n```{{eval-rst}}\n.. automodule:: {package}\n{again}```\n"
        (folder / f"{package}.md").write_text(page, encoding="utf-8")


def _write_notebook(folder: Path) -> None:
    """The notebook as a page, run by Jupyter on a small sweep of the fluid model: its text, code and outputs."""
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    path = ROOT / "examples" / "figure.ipynb"
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as place:
        sweep = Path(place) / "staleness"
        netkv = (sys.executable, "-m", "experiments.cli", "sweep", "staleness", "--world", "analytic", "--quiet")
        subprocess.run([*netkv, "--out", str(sweep)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        os.environ["NETKV_SWEEP"] = str(sweep)
        sockets = Config({"KernelManager": {"transport": "ipc", "ip": str(Path(place) / "kernel")}})  # not a port
        resources = {"metadata": {"path": str(path.parent)}}
        NotebookClient(notebook, timeout=300, resources=resources, config=sockets).execute()
        parts = [part for cell in notebook.cells for part in _as_markdown(cell, folder)]
        text = "\n\n".join(parts).replace(str(sweep), "results/staleness-mine")
    (folder / "notebook.md").write_text(f"{text}\n", encoding="utf-8")


def _as_markdown(cell: Any, folder: Path) -> list[str]:
    """A cell and what it shows; a picture becomes a file of the folder."""
    if cell.cell_type == "markdown":
        return [cell.source]
    parts = [f"```python\n{cell.source}\n```"]
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            (folder / "notebook.png").write_bytes(base64.b64decode(data["image/png"]))
            parts.append("![What the cell draws](notebook.png)")
        elif "text/plain" in data:
            parts.append(f"```text\n{data['text/plain']}\n```")
    return parts


def _parts_of_experiments() -> list[str]:
    """The packages inside `experiments` that have public names."""
    return sorted(f"experiments.{path.parent.name}" for path in (ROOT / "experiments").glob("*/__init__.pyi"))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
