"""README and docs: links resolve, every page is reached, words are the field's, generated pages are up to date."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from experiments.planning.spec_reference import page
from experiments.questions import QUESTIONS
from serving import RequestRecord
from tests.support.paths import ROOT

DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
SPECIFICATION = ROOT / "docs" / "reference" / "specification.md"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

DIALECT = re.compile(
    r"\b(on packets|sent again|asked and seen|for certain|can(not)? be told|network view|links? of choice|run's zero"
    r"|warm connections?|kept connections?|mend(s|ed|ing)?|rooms?|spells?|buckets?|ladders?|rungs?|canary|performers?"
    r"|agenda|in its stride|has had its say)\b",
    re.IGNORECASE,
)
"""Words of our own for which the field has others (docs/glossary.md). CHANGELOG may name what was renamed."""
FOREIGN = ["docs/guide/routing.md"]
"""A page of another project that a docstring cites."""
THE_FIELDS_OWN = ("token bucket",)


def packages() -> tuple[str, ...]:
    """The packages in the order of their imports, as `test_architecture` holds it."""
    tree = ast.parse(text_of(ROOT / "tests" / "unit" / "test_architecture.py"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "PACKAGES":
            return tuple(one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant))
    raise AssertionError("test_architecture has no PACKAGES")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors_of(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: lower case, no punctuation, dashes for spaces."""
    headings = (
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text_of(path))
    )
    return set(headings)


def links_of(path: Path) -> list[tuple[Path, str]]:
    """The files and anchors of this project that a page links to."""
    found = []
    for link in LINK.findall(text_of(path)):
        if not link.startswith(("http:", "https:", "mailto:")):
            file, _, anchor = link.partition("#")
            found.append(((path.parent / file).resolve() if file else path, anchor))
    return found


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_leads_somewhere(path: Path) -> None:
    assert [str(target) for target, _ in links_of(path) if not target.exists()] == []
    assert [anchor for target, anchor in links_of(path) if anchor and anchor not in anchors_of(target)] == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page_path = ahead.pop()
        if page_path not in reached:
            reached.add(page_path)
            ahead += [target for target, _ in links_of(page_path) if target.suffix == ".md"]
    assert [name_of(path) for path in DOCS if path not in reached] == []


def test_every_picture_is_shown() -> None:
    shown = {target for path in PAGES for target, _ in links_of(path)}
    assert [path.name for path in (ROOT / "docs" / "img").iterdir() if path not in shown] == []


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "CHANGELOG.md"], ids=name_of)
def test_the_words_are_the_fields(path: Path) -> None:
    text = text_of(path)
    for term in THE_FIELDS_OWN:
        text = text.replace(term, "")
    assert [found.group() for found in DIALECT.finditer(text)] == []


def test_every_page_that_the_code_names_exists() -> None:
    code = [path for package in (*packages(), "tests", "examples") for path in (ROOT / package).rglob("*.py")]
    named = {name for path in code for name in re.findall(r"\bdocs/[\w/-]+\.md\b", text_of(path))}
    assert sorted(name for name in named if not (ROOT / name).exists()) == FOREIGN


def test_the_page_of_the_specification_is_up_to_date() -> None:
    again = "python -m experiments.planning.spec_reference > docs/reference/specification.md"
    assert text_of(SPECIFICATION) == page() + "\n", f"run {again}"


@pytest.mark.parametrize("column", [one.name for one in fields(RequestRecord)])
def test_every_column_of_requests_is_on_the_page_of_results(column: str) -> None:
    assert f"`{column}`" in text_of(ROOT / "docs" / "reference" / "results.md")


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_every_question_is_on_the_page_of_sweeps(question: str) -> None:
    assert f"`{question}`" in text_of(ROOT / "docs" / "reference" / "sweeps.md")


def test_every_verb_is_on_the_page_of_the_command_line() -> None:
    verbs = {path.stem for path in (ROOT / "experiments" / "verbs").glob("*.py")} - {"__init__", "options", "choices"}
    listed = set(re.findall(r"^\| `(\w+)", text_of(ROOT / "docs" / "reference" / "command-line.md"), re.MULTILINE))
    assert sorted(verbs - listed) == []


def test_the_readme_lists_the_packages_in_the_order_of_their_imports() -> None:
    assert tuple(re.findall(r"^\| `(\w+)/` \|", text_of(ROOT / "README.md"), re.MULTILINE)) == packages()
