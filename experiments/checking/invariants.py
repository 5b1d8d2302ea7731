"""The invariants of a history by name, and the checks of a run folder and of a sweep's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from experiments.checking import network_invariants as network
from experiments.checking import request_invariants as request
from experiments.checking import summary_invariants as summary
from experiments.checking import time_invariants as time
from experiments.checking.history import History, read_history, run_folders
from experiments.checking.violation import Violation
from experiments.running import StoreError

Invariant = Callable[[History], Iterator[Violation]]
"""Yields whatever breaks it. Its docstring says what holds, with the tolerance where there is one."""

INVARIANTS: Mapping[str, Invariant] = MappingProxyType(
    {
        check.__name__: check
        for check in (
            request.request_ids,
            request.one_end,
            request.times_known,
            request.one_decision,
            request.decision_agrees,
            request.roles,
            request.tier,
            request.cached_tokens,
            request.kv_bytes,
            time.times_in_order,
            time.times_add_up,
            time.prefill_time,
            time.prefill_queue,
            time.transfer_speed,
            time.decode_steps,
            time.batch_slots,
            time.kv_memory,
            time.memory_wait,
            time.snapshot_age,
            network.paths,
            network.paths_carry_kv,
            network.wire_bytes,
            network.link_utilisation,
            network.link_bytes,
            network.links_carry_kv,
            summary.summary_counts,
            summary.summary_means,
        )
    }
)
"""Every invariant by its name, in the order in which they are checked."""


NOT_A_HISTORY = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What working out an invariant raises where a value has another type or size than any run writes."""


def check_run(folder: Path) -> list[Violation]:
    """Everything in a run folder that breaks an invariant. StoreError when it is no run folder."""
    history = read_history(folder)
    violations: list[Violation] = []
    for name, holds in INVARIANTS.items():
        try:
            violations += [found.of(history.run, name) for found in holds(history)]
        except NOT_A_HISTORY as problem:
            raise StoreError(
                f"{folder}: damaged: holds what no run writes, so {name} cannot be worked out"
                f" ({type(problem).__name__}: {problem}): make the run again"
            ) from None
    return violations


def check_folder(folder: Path) -> dict[str, list[Violation]]:
    """The violations of a run, or of every run of a sweep, by the name of the run. StoreError when it is neither."""
    return {place.name or str(place): check_run(place) for place in run_folders(folder)}
