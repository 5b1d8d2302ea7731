"""Reading ALTO requests: JSON in, checked parameters out, or the error of RFC 7285 (8.5.2) that says what is wrong.

Fields that are not known are ignored, as RFC 7285 (8.3.7) demands.
"""

from __future__ import annotations

import ipaddress
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONSTRAINT = re.compile(r"(gt|lt|ge|le|eq)\s+(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "gt": operator.gt,
    "lt": operator.lt,
    "ge": operator.ge,
    "le": operator.le,
    "eq": operator.eq,
}
NAME = re.compile(r"[A-Za-z0-9:@_-]{1,64}")
"""A PID's name, a resource's or a substream's (RFC 7285, 10.1)."""

LONGEST_VALUE = 200
"""Characters of a wrong value that an error repeats."""


class AltoError(ValueError):
    """An error of a request. `code` is one of RFC 7285's, `place` the path of the field, `value` the wrong value."""

    def __init__(self, code: str, place: str = "", value: object = None, syntax: str = "") -> None:
        super().__init__(": ".join(part for part in (code, place, syntax) if part))
        self.code = code
        self.place = place
        self.value = value
        self.syntax = syntax

    def document(self) -> dict[str, Any]:
        """The error resource, of media type application/alto-error+json."""
        meta = {"code": self.code}
        if self.syntax:
            meta["syntax-error"] = self.syntax
        if self.place:
            meta["field"] = self.place
        if self.value is not None:
            said = self.value if isinstance(self.value, str) else json.dumps(self.value)
            meta["value"] = said[:LONGEST_VALUE]
        return {"meta": meta}


def missing(place: str) -> AltoError:
    return AltoError("E_MISSING_FIELD", place)


def wrong_value(place: str, value: object) -> AltoError:
    return AltoError("E_INVALID_FIELD_VALUE", place, value)


def parse_body(body: bytes) -> Mapping[str, Any]:
    """The object in a request's body. AltoError E_SYNTAX for anything else."""
    try:
        document = json.loads(body, parse_constant=_refuse)
    except ValueError as problem:  # not UTF-8 either
        raise AltoError("E_SYNTAX", syntax=str(problem)[:LONGEST_VALUE]) from None
    except RecursionError:
        raise AltoError("E_SYNTAX", syntax="nested too deep") from None
    if not isinstance(document, dict):
        raise AltoError("E_SYNTAX", syntax="an object was expected")
    return document


def field(given: Mapping[str, Any], place: str, kind: type, *, optional: bool = False) -> Any:
    """The value of the last field of a path such as `cost-type/cost-mode`; None where an optional one is not there."""
    name = place.rpartition("/")[2]
    if name not in given:
        if optional:
            return None
        raise missing(place)
    value = given[name]
    if not isinstance(value, kind):
        raise AltoError("E_INVALID_FIELD_TYPE", place)
    return value


def names(given: Mapping[str, Any], place: str, *, optional: bool = True) -> list[str]:
    """A list of strings, each once, in order. An element of another type is an invalid value of the list (8.5.2)."""
    found = field(given, place, list, optional=optional) or []
    for one in found:
        if not isinstance(one, str):
            raise wrong_value(place, one)
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class CostQuery:
    """A filtered cost map or endpoint cost request. Empty `sources` or `targets`: all PIDs, or the client's address.

    `constraints`: comparisons that a cost must meet. `properties`: of the elements of a path vector.
    """

    cost_type: str
    constraints: tuple[Callable[[float], bool], ...]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    properties: tuple[str, ...] = ()


def cost_query(
    given: Mapping[str, Any],
    cost_types: Mapping[str, Mapping[str, Any]],
    *,
    of_endpoints: bool = False,
    properties: Sequence[str] = (),
    testable: bool = True,
) -> CostQuery:
    """Check a request for costs against what a resource offers. `cost_types`: by name, with metric and mode."""
    asked = field(given, "cost-type", dict)
    metric, mode = (field(asked, f"cost-type/cost-{part}", str) for part in ("metric", "mode"))
    with_metric = {name: one for name, one in cost_types.items() if one["cost-metric"] == metric}
    if not with_metric:
        raise wrong_value("cost-type/cost-metric", metric)
    named = next((name for name, one in with_metric.items() if one["cost-mode"] == mode), None)
    if named is None:
        raise wrong_value("cost-type/cost-mode", mode)
    tests = names(given, "constraints")
    if tests and not testable:
        raise wrong_value("constraints", tests[0])
    wanted = names(given, "ane-property-names") if properties else []
    for one in wanted:
        if one not in properties:
            raise wrong_value("ane-property-names", one)
    place = "endpoints" if of_endpoints else "pids"
    group = field(given, place, dict, optional=not of_endpoints) or {}
    # A filter of PIDs has both lists (11.3.2.3), one of endpoints may leave one out (11.5.1.3).
    either = of_endpoints or place not in given
    sources, targets = (tuple(names(group, f"{place}/{end}", optional=either)) for end in ("srcs", "dsts"))
    if of_endpoints:
        if not sources and not targets:
            raise wrong_value("endpoints", group)
        for end, addresses in (("srcs", sources), ("dsts", targets)):
            for address in addresses:
                check_address(f"endpoints/{end}", address)
    return CostQuery(named, tuple(map(_constraint, tests)), sources, targets, tuple(wanted))


def check_address(place: str, typed: str) -> None:
    """AltoError unless this is a typed address, `ipv4:10.0.0.1` or `ipv6:...` (RFC 7285, 10.4.1)."""
    kind, _, address = typed.partition(":")
    try:
        {"ipv4": ipaddress.IPv4Address, "ipv6": ipaddress.IPv6Address}[kind](address)
    except (KeyError, ValueError):
        raise wrong_value(place, typed) from None


def _constraint(text: str) -> Callable[[float], bool]:
    found = CONSTRAINT.fullmatch(text.strip())
    if found is None:
        raise wrong_value("constraints", text)
    compare, limit = COMPARISONS[found[1]], float(found[2])
    return lambda cost: compare(cost, limit)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
