"""One file that holds the whole report: template, style, scripts, plots and data, with nothing left to load.

What a user wrote reaches the page in three ways, each of which is closed: as text, which the template escapes; as data,
in which `<` is written as JSON's escape; as a label of a plot, which Plotly is given escaped. The page's own policy
(Content-Security-Policy) names the scripts it may run by their hashes and lets it load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from experiments.analysis import CAVEAT
from experiments.drawing import MODEL_STYLES, NODE_COLOURS
from experiments.report.answer import three_sentences
from experiments.report.claims_table import basis, claim_rows
from experiments.report.collect import CollectedSweep, Run, collect
from experiments.report.evidence_section import evidence_figure, probe_rows, readings
from experiments.report.figure_card import FigureCard
from experiments.report.paper_figures import paper_figures
from experiments.report.plotly_style import as_json
from experiments.report.question_figures import question_figures
from experiments.report.rerun import again, origins
from experiments.report.scenes import scenes
from experiments.report.typesetting import WORLDS, prose, typeset
from experiments.report.world_comparison import WAYS_SHOWN, compare_runs, comparison_figures
from experiments.running import StoreError, check_writable, hand_over, make_folders, strict

MOST_ROWS = 60
"""Rows of a figure's table that the page writes out; its CSV has all of them."""

MOST_RUNS_LISTED = 200
"""Runs in the lists of verdicts and of commands."""


def write_report(folder: Path, out: Path) -> dict[str, Any]:
    """Write the report on `folder` to the file `out`. Returns what it holds. StoreError without results, or
    where it cannot be written."""
    started_s = time.monotonic()
    check_writable(out.parent, out)
    if out.is_dir():
        raise StoreError(f"{out}: is a folder; the report is a file")
    sweeps = collect(folder)
    runs = [run for sweep in sweeps for run in sweep.runs]
    comparison = compare_runs(runs)
    figures = [*question_figures(sweeps), *paper_figures(sweeps)]
    found = readings(runs)
    replayed = comparison_figures(comparison) if comparison else []
    evidence = evidence_figure(found)
    fabric_scenes = scenes(sweeps)
    claims = claim_rows([sweep.folder for sweep in sweeps if sweep.question])
    document = {
        "figures": {figure.key: _figure_data(figure) for figure in (*figures, *evidence, *replayed)},
        "scenes": fabric_scenes,
        "node_colours": NODE_COLOURS,
    }
    scripts = {"plotly": get_plotlyjs(), "charts": _source("charts.js"), "fabric": _source("fabric.js")}
    text = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=_title(folder),
            facts=_facts(sweeps, runs),
            answer=three_sentences(sweeps, comparison),
            caveat=CAVEAT,
            claims=claims,
            basis=basis,
            figures=figures,
            scenes=fabric_scenes,
            verdicts=Counter(run.verdict for run in runs if run.spec.world == "emulated"),
            listed=[_listed(run) for run in runs if run.spec.world == "emulated"][:MOST_RUNS_LISTED],
            probes=probe_rows(found),
            evidence=evidence,
            comparison=comparison,
            replayed=replayed,
            model_styles=MODEL_STYLES,
            ways=WAYS_SHOWN,
            node_colours=NODE_COLOURS,
            again=[again(sweep) for sweep in sweeps],
            origins=origins(runs),
            most_listed=MOST_RUNS_LISTED,
            worlds=WORLDS,
            table_rows=table_rows,
            most_rows=MOST_ROWS,
            style=Markup(_source("report.css")),
            data=Markup(embedded(document)),
            scripts={name: Markup(script) for name, script in scripts.items()},
            policy=content_policy(scripts.values()),
        )
    )
    _write(out, text)
    return {
        "out": str(out),
        "bytes": out.stat().st_size,
        "seconds": round(time.monotonic() - started_s, 1),
        "sweeps": [{"name": sweep.name, "question": sweep.question, "runs": len(sweep.runs)} for sweep in sweeps],
        "figures": list(document["figures"]),
        "scenes": [scene["name"] for scene in fabric_scenes],
        "claims": len(claims),
        "replayed": comparison.replayed if comparison else 0,
    }


def _write(out: Path, text: str) -> None:
    """Write the page beside its place and move it there in one step."""
    try:
        make_folders(out.parent)
        partial = out.with_name(f".{out.name[:40]}.partial")
        partial.write_text(text, encoding="utf-8")
        hand_over(partial)
        partial.replace(out)
    except OSError as problem:
        raise StoreError(f"{out}: {problem.strerror or problem}") from None


def embedded(document: Any) -> str:
    """JSON for a script element: strict, and without a character that could end the element or open another."""
    text = json.dumps(strict(document), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content_policy(scripts: Any) -> str:
    """A policy under which only these very scripts run and nothing is fetched."""
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def table_rows(table: pd.DataFrame) -> list[list[str]]:
    """The first rows of a table as a person reads them."""
    return [[_cell(value) for value in row] for row in table.head(MOST_ROWS).itertuples(index=False)]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _hash(script: str) -> str:
    """As a browser hashes an inline script: of what the parser leaves, whose line ends are plain."""
    parsed = script.replace("\r\n", "\n").replace("\r", "\n")
    return base64.b64encode(hashlib.sha256(parsed.encode()).digest()).decode()


def _figure_data(figure: FigureCard) -> dict[str, Any]:
    return {
        "title": figure.title,
        "panels": [{"title": panel.title, **as_json(panel.plot)} for panel in figure.panels],
        "csv": figure.table.to_csv(index=False),
    }


def _title(folder: Path) -> str:
    return folder.resolve().name or "results"


def _facts(sweeps: Sequence[CollectedSweep], runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What the folder holds, in figures."""
    worlds = Counter(str(run.spec.world) for run in runs)
    gpus = sorted({run.spec.fabric.gpus for run in runs})
    requests = sum(len(sweep.requests) for sweep in sweeps)
    policies = len({run.spec.policy for run in runs})
    models = ", ".join(dict.fromkeys(run.spec.model.name for run in runs))
    return [(str(worlds[name]), f"{name} run{'s' if worlds[name] != 1 else ''}") for name in WORLDS if worlds[name]] + [
        (f"{requests:,}", "requests"),
        (str(policies), "policy" if policies == 1 else "policies"),
        (f"{gpus[0]}" if len(gpus) == 1 else f"{gpus[0]}–{gpus[-1]}", "GPUs"),
        (models, "model"),
    ]


def _listed(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "verdict": run.verdict,
        "worst": run.manifest.get("verdict_worst") or "",
        "reasons": run.manifest.get("verdict_reasons") or [],
    }


def _source(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("experiments.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"typeset": typeset, "prose": prose}
    return environment
