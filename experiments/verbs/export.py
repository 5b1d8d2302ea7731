"""`netkv export`: a run in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.verbs import choices


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, of either world.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="|".join(choices.EXPORTS), help="What to write.", autocompletion=choices.exports
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; must not exist yet (default: standard output).")
    ] = None,
) -> None:
    """Write a run in a format of another tool.

    \b
    vllm          what `vllm bench serve --save-result --save-detailed` would have written
    aiperf        what AIPerf (GenAI-Perf) would have: profile_export_aiperf.json
    csv           a row a request
    chrome-trace  a timeline of every request at its instances; open it on ui.perfetto.dev
    """
    from experiments.exporting import export_run
    from experiments.running import check_new_file, write_new_file

    if out is not None:
        check_new_file(out)
    text = export_run(run, form)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_new_file(out, text)
    typer.echo(f"{out}: {len(text.encode()) / 1e6:.1f} MB")
