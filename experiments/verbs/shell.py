"""`netkv shell`: Mininet's CLI on our fabric."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from experiments.verbs.options import Setting, changes_of


def shell(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="[SPEC.yaml]", help="Specification (default: ours).")
    ] = None,
    settings: Setting = None,
) -> None:
    """Bring the fabric up and open Mininet's command line on it (`h0 ping h15`, `pingall`, `iperf h0 h8`, `exit`).

    Reads commands from a pipe too: `echo pingall | netkv shell`.
    """
    from experiments.running import read_spec
    from testbed import SendBufferLease, python_in_sandbox, require_sandbox

    spec = read_spec(spec_file, changes_of(settings=settings))
    require_sandbox()
    task = {"scenario": spec.scenario.model_dump(mode="json"), "emulation": spec.emulation.model_dump(mode="json")}
    with SendBufferLease():
        code = subprocess.run(python_in_sandbox("testbed.mininet_shell", json.dumps(task)), check=False).returncode
    if code:
        raise typer.Exit(code if code > 0 else 1)
