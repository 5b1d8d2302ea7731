"""The specification of a run: a YAML file, its shortcuts on the command line, and one clear line when it is wrong."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from experiments.running.bounded_yaml import MOST_BYTES, load_yaml, mark_of
from experiments.running.errors import SpecError
from scenario import EMULATED_ONLY, TELEMETRY_FAULTS, FaultsSpec, Scenario, check_targets
from scheduler import check_parameters, find_policy, is_router_url, parse_router_url
from simulator import SimulationSpec
from testbed import EmulationSpec, hidden_in_sandbox
from topologies import did_you_mean, did_you_mean_file
from workloads import WorkloadError, open_in_time

LONGEST_ECHO = 80

FIELD_NAME = re.compile(r"(?:[A-Za-z_][\w.:-]*: )+")
"""The dotted name of a field, with which most complaints begin; some name a section and its field one after another."""

World = Literal["emulated", "analytic"]


class RunSpec(Scenario):
    """A scenario, the world that replays it, and what belongs to one world alone."""

    world: World = Field(
        "emulated", description="`emulated`: real packets through Open vSwitch. `analytic`: the fluid simulator."
    )
    emulation: EmulationSpec = Field(
        default_factory=EmulationSpec, description="How the emulated world scales the system onto this machine."
    )
    simulation: SimulationSpec = Field(SimulationSpec(), description="How the analytic world models the network.")

    @model_validator(mode="wrap")
    @classmethod
    def _the_datapath_fits_the_fabric(cls, given: Any, validated: ModelWrapValidatorHandler[RunSpec]) -> RunSpec:
        spec = validated(given)
        emulation = spec.emulation.for_ports(spec.fabric.switch_ports)
        return spec if emulation is spec.emulation else spec.model_copy(update={"emulation": emulation})

    @property
    def scenario(self) -> Scenario:
        """What both worlds agree on."""
        return Scenario.model_validate({name: getattr(self, name) for name in Scenario.model_fields})


def read_spec(path: Path | None, changes: Mapping[str, Any]) -> RunSpec:
    """The specification in a YAML file (None: the default one) with `changes`, dotted names to values, made to it.

    Raises SpecError naming the file with line and column, or none where a change is wrong, the field and the reason.
    """
    if path is None:
        return make_spec({}, changes)
    text = _read(path)
    fields = _mapping(path, text)
    try:
        return make_spec(fields, changes)
    except SpecError as problem:
        raise SpecError(_placed(str(problem), path, text, changes)) from None


def make_spec(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> RunSpec:
    """The specification of nested `fields` with `changes`, dotted names to values. SpecError as `read_spec`."""
    try:
        merged = _deep_copy(fields)
        for name, value in changes.items():
            _set(merged, name, _deep_copy(value) if isinstance(value, Mapping) else value)
        spec = RunSpec.model_validate(merged)
        find_policy(spec.policy)
        for policy, parameters in spec.policy_parameters.items():
            check_parameters(policy, parameters)
        _check_trace(spec)
        _check_world(spec)
        check_targets(spec.faults, *spec.build())
    except ValidationError as problem:
        raise SpecError(complaint(problem)) from None
    except RecursionError:
        raise SpecError("a field that holds itself") from None
    except ValueError as problem:  # of the fabric, the placement or the policy
        raise SpecError(str(problem)) from None
    return spec


def _placed(said: str, path: Path, text: str, changes: Mapping[str, Any]) -> str:
    """A complaint that begins with the name of a field, after the file and the place in it that the field has.

    A field that a change has set is not the file's.
    """
    name = FIELD_NAME.match(said)
    if name is None:
        return f"{path}: {said}"
    field = name.group().removesuffix(": ").replace(": ", ".")
    if any(f"{field}.".startswith(f"{changed}.") for changed in changes):
        return said
    return f"{path}{mark_of(text, field.split('.'))}: {said}"


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`--set key=value` pairs as dotted names and YAML values. SpecError for anything else."""
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise SpecError(f"--set {shortened(setting)}: key=value was expected")
        try:
            changes[name.strip()] = load_yaml(text)
        except yaml.MarkedYAMLError as problem:
            raise SpecError(f"--set {shortened(setting)}: the value is not YAML: {problem.problem}") from None
        except (yaml.YAMLError, ValueError):  # an impossible date, thousands of digits
            raise SpecError(f"--set {shortened(setting)}: the value is not YAML") from None
    return changes


def _mapping(path: Path, text: str) -> dict[str, Any]:
    found = _parsed(path, text)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise SpecError(f"{path}: a mapping of fields was expected, not {type(found).__name__}")
    return found


def _read(path: Path) -> str:
    """What is in a text file of bounded length."""
    try:
        with open_in_time(path) as file:
            return file.read(MOST_BYTES + 1).decode("utf-8")
    except (WorkloadError, OSError) as problem:
        raise SpecError(f"{problem}{did_you_mean_file(path)}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not UTF-8 text") from None


def _parsed(path: Path, text: str) -> Any:
    """The value of a YAML text, of which JSON is a part."""
    try:
        return load_yaml(text)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SpecError(f"{path}{place}: not YAML: {problem.problem}") from None
    except (yaml.YAMLError, ValueError) as problem:  # ValueError: an impossible date, a number of thousands of digits
        raise SpecError(f"{path}: not YAML: {' '.join(str(problem).split())}") from None


def _set(fields: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    at = fields
    for step in path:
        inner = at.setdefault(step, {})
        if not isinstance(inner, dict):
            raise SpecError(f"{name}: {step} is not a section")
        at = inner
    at[last] = value


def _deep_copy(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _deep_copy(value) if isinstance(value, Mapping) else value for key, value in fields.items()}


def read_faults(path: Path) -> dict[str, Any]:
    """The section `faults` in a YAML or JSON file: a list of events, or the section itself. SpecError otherwise."""
    text = _read(path)
    found = _parsed(path, text)
    within: list[str] = []
    if isinstance(found, dict) and set(found) == {"faults"}:
        within, found = ["faults"], found["faults"]
    if not isinstance(found, (list, dict)):
        raise SpecError(f"{path}: a list of faults was expected, not {type(found).__name__}")
    section = {"events": found} if isinstance(found, list) else found
    try:
        FaultsSpec.model_validate(section)
    except ValidationError as problem:
        said = complaint(problem)
        names = said.partition(":")[0].split(".")
        steps = [*within, *(names[1:] if isinstance(found, list) else names)]
        raise SpecError(f"{path}{mark_of(text, steps)}: faults.{said}") from None
    return section


def _check_world(spec: RunSpec) -> None:
    """ValueError where the world of a run cannot have one of its faults, take a transfer back, or reach its router."""
    if spec.world == "emulated":
        router = parse_router_url(spec.policy) if is_router_url(spec.policy) else None
        if router and (hidden := hidden_in_sandbox(os.path.realpath(router.socket))):
            raise ValueError(f"policy: {spec.policy}: the sandbox has a {hidden} of its own: put the socket elsewhere")
        return
    if spec.simulation.network == "closed_form" and math.isfinite(spec.serving.retry.timeout_s):
        raise ValueError(
            "serving.retry.timeout_s: no transfer is taken back in closed form: set simulation.network=fluid"
        )
    named = [(f"faults.events.{number}.kind", event.kind) for number, event in enumerate(spec.faults.events)]
    if spec.faults.random.rate:
        named += [("faults.random.kinds", kind) for kind in spec.faults.random.kinds]
    for place, kind in named:
        if kind in EMULATED_ONLY:
            raise ValueError(f"{place}: {kind}: {EMULATED_ONLY[kind]}")
        if spec.simulation.network == "closed_form" and kind not in TELEMETRY_FAULTS:
            raise ValueError(f"{place}: {kind} needs links and connections: leave out simulation.network=closed_form")


def _check_trace(spec: RunSpec) -> None:
    trace = spec.workload.trace
    if trace is None:
        return
    try:
        mode = trace.stat().st_mode
    except OSError as problem:
        relative = isinstance(problem, FileNotFoundError) and not trace.is_absolute()
        where = " (a relative path begins in the folder where netkv is called)" if relative else ""
        raise SpecError(f"workload.trace: {trace}: {problem.strerror}{where}{did_you_mean_file(trace)}") from None
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        raise SpecError(
            f"workload.trace: {trace}: a pipe, which can be read only once, and a run reads its trace more often: write"
            " it to a file first"
        )
    if not os.access(trace, os.R_OK):
        raise SpecError(f"workload.trace: {trace}: no permission to read it")


def complaint(problem: ValidationError) -> str:
    """The first complaint, with the dotted name of its field."""
    first, *others = [
        found for found in problem.errors(include_url=False) if found["type"] != "default_factory_not_called"
    ]  # such a default waits for the field that is wrong
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{field}: no such field{_field_meant(first['loc'])}"
    reason = "a list was expected" if first["type"] == "tuple_type" else first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    shown = (
        f" (got {shortened(repr(given))})"
        if isinstance(given, (str, int, float, bool)) and repr(given) not in reason
        else ""
    )
    if first["type"] == "literal_error":
        shown += did_you_mean(str(given), re.findall("'([^']*)'", first["ctx"]["expected"]))
    more = f"; and {len(others)} more" if others else ""
    return f"{field}: {reason}{shown}{more}" if field else f"{reason}{shown}{more}"


def _field_meant(place: tuple[int | str, ...]) -> str:
    """The field that may have been meant by one that its section lacks: one of that section, or of another."""
    *path, name = (str(part) for part in place)
    section: type[Any] | None = RunSpec
    for part in path:
        section = None if section is None else _sections_of(section).get(part)
    if section is None:
        return ""
    elsewhere = [
        f"{other}.{name}" for other, inner in _sections_of(RunSpec).items() if not path and name in _fields_of(inner)
    ]
    return f" (did you mean {elsewhere[0]}?)" if elsewhere else did_you_mean(name, _fields_of(section))


def _fields_of(section: type[Any]) -> list[str]:
    """The names of a section's fields: those of a pydantic model, or of a dataclass that pydantic validates."""
    return list(section.model_fields if issubclass(section, BaseModel) else section.__dataclass_fields__)


def _sections_of(section: type[Any]) -> dict[str, type[Any]]:
    """The sections within a section, by name."""
    if not issubclass(section, BaseModel):
        return {}
    found = {name: info.annotation for name, info in section.model_fields.items()}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind))
    }


def shortened(text: str) -> str:
    """At most `LONGEST_ECHO` characters of what a user wrote: a message stays one line that can be read."""
    return text if len(text) <= LONGEST_ECHO else f"{text[:LONGEST_ECHO]}..."
