"""The command line: a verb a file, and one line with exit code 2 for whatever a user can get wrong.

Exit code 3, with one line, for what breaks while a run is under way and for what the machine runs out of.
"""

from __future__ import annotations

import gc
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import typer

from experiments.running import shortage_behind
from experiments.verbs.check import check
from experiments.verbs.clean import clean
from experiments.verbs.compare import compare
from experiments.verbs.doctor import doctor
from experiments.verbs.explain import explain
from experiments.verbs.export import export
from experiments.verbs.gains import gains
from experiments.verbs.init import init
from experiments.verbs.models import models
from experiments.verbs.oracle import oracle
from experiments.verbs.paper import paper
from experiments.verbs.paths import paths
from experiments.verbs.plan import plan
from experiments.verbs.policy import policy
from experiments.verbs.reference import reference
from experiments.verbs.report import report
from experiments.verbs.run import run
from experiments.verbs.shell import shell
from experiments.verbs.sweep import sweep
from experiments.verbs.trace import trace
from experiments.verbs.tune import tune

GC_THRESHOLD = 50_000
"""New objects between two garbage collections. What imports make stays: with Python's 700, looking through it again and
again takes a tenth of a short run."""

SPARE_B = 1 << 24
"""Address space that is given back when a command ends, so that one without memory can still say so. Nothing writes to
it, so it takes no memory."""

AGAIN_S = 0.01

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that interrupt a command."""

BAD_INPUT, BROKEN_RUN = 2, 3
"""Exit codes, beside 0 (what was asked holds) and 1 (it was done, and does not hold)."""

app = typer.Typer(
    name="netkv",
    help="Which decode instance should receive a request's KV cache? In emulation, and in a fluid simulator.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    doctor,
    init,
    plan,
    run,
    sweep,
    compare,
    gains,
    report,
    export,
    explain,
    check,
    paths,
    tune,
    models,
    shell,
    clean,
):
    app.command()(verb)
app.add_typer(paper, name="paper", help="The paper as published: fit what it does not say, then predict its cells.")
app.add_typer(reference, name="reference", help="Reference results: build them, rank policies by them.")
app.add_typer(policy, name="policy")
app.add_typer(trace, name="trace")
app.add_typer(oracle, name="oracle")


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP: unwinds every context on its way out, so that nothing is left behind."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number


def main() -> None:
    """Entry point: exit code of the verb, 2 for bad input, 3 for a broken run, 128 and the signal if interrupted."""
    gc.set_threshold(GC_THRESHOLD)
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup(1)
            signal.signal(number, _interrupt)
    sys.unraisablehook = _interrupt_again
    spare = bytearray(SPARE_B)
    try:
        try:
            app()
        finally:
            del spare
    except Interrupted as problem:
        with suppress(Interrupted):  # another one, until they are ignored: Ctrl-C is often pressed twice
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            typer.echo("netkv: interrupted; finished runs are kept (--resume continues a sweep)", err=True)
        sys.exit(problem.exit_code)
    except SystemExit:
        raise
    except MemoryError as problem:
        problem.__traceback__ = None  # gives back what its frames hold, so that there is memory to say it
        _end_for(shortage_behind(problem))
    except bad_input() as problem:
        from experiments.running import one_line

        shortage = shortage_behind(problem)
        said = shortage.added_to(str(problem)) if shortage else str(problem)
        typer.echo(f"netkv: {one_line(said)}", err=True)
        sys.exit(BROKEN_RUN if shortage or isinstance(problem, broken_run()) else BAD_INPUT)
    except Exception as problem:
        if (shortage := shortage_behind(problem)) is None:
            raise
        _end_for(shortage)


def bad_input() -> tuple[type[Exception], ...]:
    """The errors that are a user's to correct. Imported when there is one: `netkv doctor` must start without."""
    from experiments.running import ClusterError, SpecError, StoreError
    from scheduler import PolicyError
    from simulator import SimulationError
    from testbed import TestbedError
    from topologies import FabricError
    from workloads import WorkloadError

    return (
        *(SpecError, StoreError, ClusterError, TestbedError),
        *(SimulationError, PolicyError, FabricError, WorkloadError),
    )


def broken_run() -> tuple[type[Exception], ...]:
    """The errors that end a run which had begun, whatever the user asked for."""
    from experiments.running import BrokenClusterError
    from simulator import StuckError
    from testbed import BrokenRunError

    return BrokenRunError, StuckError, BrokenClusterError


def _end_for(shortage: object) -> NoReturn:
    typer.echo(f"netkv: {shortage}", err=True)
    sys.exit(BROKEN_RUN)


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(number)


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """A signal can come while C calls Python back, as the compiler does: what its handler raises there is ignored. It
    is then raised once more, a moment later."""
    if isinstance(lost := unraisable.exc_value, Interrupted):
        signal.signal(signal.SIGALRM, lambda *_: _interrupt(lost.number, None))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    else:
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    main()
