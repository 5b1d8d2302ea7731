"""Sphinx's configuration of the documentation as a site: Markdown as it stands, names from the docstrings, no network.

`make docs` lays the pages out (`stage.py`) and builds them; a warning, such as a link that leads nowhere, is an error.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

project = "NetKV testbed"
copyright = "the NetKV testbed's authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
html_theme = "furo"
html_title = project
html_show_sphinx = False
html_copy_source = False
highlight_language = "text"
myst_heading_anchors = 4
myst_links_external_new_tab = False
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
nitpicky = False

REMOTE = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=\"https?:|<link\b[^>]*rel=\"(?:stylesheet|preload)\"[^>]*https?:"
)
"""What would be loaded from elsewhere when a page is opened."""

CODE = re.compile(r"(`[^`]+`)")


def as_rst(_app: Any, what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Our docstrings are plain text with code between single backticks; an example is a paragraph of Python."""
    paragraphs = "\n".join(lines).split("\n\n")
    lines[:] = "\n\n".join(_paragraph(one, what == "module") for one in paragraphs).split("\n")


def _paragraph(text: str, may_be_code: bool) -> str:
    if may_be_code and _is_code(text):
        return ".. code-block:: python\n\n" + "\n".join(f"   {line}" for line in text.splitlines())
    parts = CODE.split(text)
    return "".join(f"`{part}`" if CODE.fullmatch(part) else re.sub(r"([\\*|_])", r"\\\1", part) for part in parts)


def _is_code(text: str) -> bool:
    try:
        return bool(ast.parse(text.strip()).body)
    except SyntaxError:
        return False


def check_offline(app: Any, problem: Exception | None) -> None:
    """ValueError where a page would load something from elsewhere."""
    if problem is not None:
        return
    for page in sorted(Path(app.outdir).rglob("*.html")):
        if found := REMOTE.search(page.read_text(encoding="utf-8")):
            raise ValueError(f"{page}: loads from elsewhere: {found.group()}")


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", as_rst)
    app.connect("build-finished", check_offline)
