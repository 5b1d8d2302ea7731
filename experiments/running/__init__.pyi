# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .bench_serve import VLLM_FIGURES, VLLM_SET_UP, arrays_of, set_up_of
from .errors import ClusterError, SpecError, StoreError
from .machine import git_commit, versions
from .run_spec import RunSpec, make_spec, parse_settings, read_spec, shortened
from .store import (
    MEASURED,
    PATHS,
    PCAP,
    check_free,
    check_writable,
    is_run,
    json_text,
    new_folder,
    read_manifest,
    read_summary,
    read_table,
    request_gaps_ms,
    spec_of,
    strict,
    write_json,
    write_run,
)
from .summary import peaks, slo_met, summarise
from .sweep import CONTROL, RUNS, Condition, control_of, read_control, read_sweep, run_columns, run_sweep
from .sweep_folder import DESCRIPTION, present, read_description
from .token_times import Gaps, times_of_gaps
from .worlds import open_world, verdict_of

__all__ = [
    "CONTROL",
    "DESCRIPTION",
    "MEASURED",
    "PATHS",
    "PCAP",
    "RUNS",
    "VLLM_FIGURES",
    "VLLM_SET_UP",
    "ClusterError",
    "Condition",
    "Gaps",
    "RunSpec",
    "SpecError",
    "StoreError",
    "arrays_of",
    "check_free",
    "check_writable",
    "control_of",
    "git_commit",
    "is_run",
    "json_text",
    "make_spec",
    "new_folder",
    "open_world",
    "parse_settings",
    "peaks",
    "present",
    "read_control",
    "read_description",
    "read_manifest",
    "read_spec",
    "read_summary",
    "read_sweep",
    "read_table",
    "request_gaps_ms",
    "run_columns",
    "run_sweep",
    "set_up_of",
    "shortened",
    "slo_met",
    "spec_of",
    "strict",
    "summarise",
    "times_of_gaps",
    "verdict_of",
    "versions",
    "write_json",
    "write_run",
]
