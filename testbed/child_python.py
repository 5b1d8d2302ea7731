"""How a child process that runs our own code starts: one function, so that no folder can take the place of our code.

`python -m` and `python -c` put the current directory before everything else that can be imported. A user's folder
called `scheduler` or `testbed` there would be taken for ours. No child that starts here looks into that directory.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = str(Path(__file__).parents[1])
"""The folder that holds our packages."""

BARE_START = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1));"
    " runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def child_python(module: str, *arguments: str, bare: bool = False) -> list[str]:
    """The command that runs one of our modules with these arguments in a Python process of its own.

    `bare`: without site-packages and regardless of Python's environment variables, for modules that need the standard
    library and our own packages only; the process starts in half the time.
    """
    if bare:
        return [sys.executable, "-I", "-S", "-c", BARE_START, PROJECT, module, *arguments]
    return [sys.executable, "-P", "-m", module, *arguments]
