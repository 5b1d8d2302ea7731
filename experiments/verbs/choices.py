"""The names that options take, without what they name: help and completion must not wait for the imports of a run.

A test holds each list against the thing itself.
"""

from __future__ import annotations

EXPORTS = ("vllm", "aiperf", "csv", "chrome-trace")
WORLDS = ("emulated", "analytic")
PROFILES = ("quick", "full")
QUESTIONS = ("staleness", "staleness_map", "topology", "prefix", "ablation", "scale", "regimes", "faults", "hard_cases")
CONGESTION_KINDS = ("none", "constant", "onoff", "hotspot", "incast", "shuffle")
GPU_NAMES = ("h100", "h200", "a100", "b200")
TUNING_OBJECTIVES = ("mean_ttft_ms", "p99_ttft_ms", "mean_kv_transfer_ms", "mean_e2el_ms")
POLICIES = (
    "round_robin",
    "random",
    "least_loaded",
    "vllm_dp",
    "power_of_two",
    "ca",
    "cla",
    "cla_star",
    "llmd_default",
    "llmd_topology",
    "sglang_cache_aware",
    "dynamo_decode",
    "dynamo_qos",
    "aibrix_decode",
    "conductor",
    "netkv_topo_only",
    "netkv_static",
    "netkv_full",
    "netkv_fresh",
    "paper_static",
    "paper_self_contention",
    "paper_full",
)
ROUTERS = ("dynamo_router", "dynamo_router_topology", "dynamo_router_netkv")


def policies(incomplete: str) -> list[str]:
    """Names of policies for the shell to complete with."""
    return _starting_with(incomplete, (*POLICIES, *ROUTERS))


def policy_lists(incomplete: str) -> list[str]:
    """Lists of policies with a comma between them, completed at their last name."""
    before, comma, last = incomplete.rpartition(",")
    return [
        f"{before}{comma}{name}"
        for name in _starting_with(last, (*POLICIES, *ROUTERS))
        if name not in before.split(",")
    ]


def questions(incomplete: str) -> list[str]:
    """What a sweep may vary."""
    return _starting_with(incomplete, QUESTIONS)


def congestion_kinds(incomplete: str) -> list[str]:
    """Kinds of background congestion."""
    return _starting_with(incomplete, CONGESTION_KINDS)


def worlds(incomplete: str) -> list[str]:
    """The worlds of a run."""
    return _starting_with(incomplete, WORLDS)


def worlds_or_both(incomplete: str) -> list[str]:
    """The worlds of a sweep."""
    return _starting_with(incomplete, (*WORLDS, "both"))


def profiles(incomplete: str) -> list[str]:
    """How long a sweep may take."""
    return _starting_with(incomplete, PROFILES)


def exports(incomplete: str) -> list[str]:
    """The formats of an export."""
    return _starting_with(incomplete, EXPORTS)


def objectives(incomplete: str) -> list[str]:
    """What `netkv tune` can minimise."""
    return _starting_with(incomplete, TUNING_OBJECTIVES)


def _starting_with(incomplete: str, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
