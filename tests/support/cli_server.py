"""Runs `netkv` many times without starting Python many times: imports all once, then forks for every line it reads.

A line is {"arguments", "cwd", "out", "err", "user"}; the answer is the exit code. A child that does not end is killed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

from experiments import cli

DEADLINE_S = 120
WHAT_VERBS_IMPORT = (
    *("experiments.running", "experiments.questions", "experiments.claims", "experiments.planning", "scenario"),
    *("scheduler", "serving", "simulator", "testbed", "rich.progress", "yaml"),
)
"""A verb imports what it needs when it runs: each of these commands would do so again."""


def be(task: dict[str, Any]) -> int:
    """Become the command: its folder, its output, its user."""
    signal.alarm(DEADLINE_S)
    os.chdir(task["cwd"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(task[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if task["user"] is not None:
        os.setgroups([])
        os.setresgid(*[task["user"]] * 3)
        os.setresuid(*[task["user"]] * 3)
    sys.argv = ["netkv", *task["arguments"]]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for name in WHAT_VERBS_IMPORT:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            getattr(module, public)
    gc.freeze()  # what is not touched need not be copied
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = be(json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
