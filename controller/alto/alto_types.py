"""What an ALTO answer consists of, and the media types of RFC 7285 (14.1), 8895, 9240 and 9275."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.alto.fabric_costs import AltoSnapshot, Floats

DIRECTORY = "application/alto-directory+json"
NETWORK_MAP = "application/alto-networkmap+json"
COST_MAP = "application/alto-costmap+json"
ENDPOINT_COST = "application/alto-endpointcost+json"
ENDPOINT_PROPERTY = "application/alto-endpointprop+json"
PROPERTY_MAP = "application/alto-propmap+json"
ERROR = "application/alto-error+json"
NETWORK_MAP_FILTER = "application/alto-networkmapfilter+json"
COST_MAP_FILTER = "application/alto-costmapfilter+json"
ENDPOINT_COST_PARAMETERS = "application/alto-endpointcostparams+json"
ENDPOINT_PROPERTY_PARAMETERS = "application/alto-endpointpropparams+json"
EVENT_STREAM = "text/event-stream"
UPDATE_STREAM_PARAMETERS = "application/alto-updatestreamparams+json"
UPDATE_STREAM_CONTROL = "application/alto-updatestreamcontrol+json"
MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class AnswerPart:
    """A document of an answer. `name`: its part resource id in a multipart answer, else empty."""

    media_type: str
    document: dict[str, Any]
    name: str = ""


Answer = tuple[AnswerPart, ...]


class NoSnapshotError(RuntimeError):
    """Nothing has been measured yet: HTTP's 503."""


@dataclass(frozen=True)
class AltoRequest:
    """What a resource answers from. `client`: the address that asks, as `ipv4:...`."""

    given: Mapping[str, Any]
    client: str = ""
    snapshot: AltoSnapshot | None = None

    @property
    def utilisation(self) -> Floats:
        """Of every link, [links]. NoSnapshotError before the first snapshot."""
        if self.snapshot is None:
            raise NoSnapshotError("no link has been measured yet")
        return self.snapshot.utilisation


@dataclass(frozen=True)
class AltoResource:
    """One information resource. Without `accepts` it is read by GET; without `answer` it is a stream of answers."""

    id: str
    uri: str
    media_type: str
    answer: Callable[[AltoRequest], Answer] | None
    accepts: str = ""
    capabilities: dict[str, Any] = field(default_factory=dict)
    uses: tuple[str, ...] = ()

    def entry(self) -> dict[str, Any]:
        """Its entry in the directory."""
        given = {"accepts": self.accepts, "capabilities": self.capabilities, "uses": list(self.uses)}
        return {"uri": self.uri, "media-type": self.media_type} | {name: one for name, one in given.items() if one}


def version_tag(resource_id: str, contents: object) -> dict[str, str]:
    """A version tag whose `tag` is a hash of the contents (RFC 7285, 10.3)."""
    text = json.dumps(contents, sort_keys=True)
    return {"resource-id": resource_id, "tag": hashlib.sha256(text.encode()).hexdigest()}


def short_number(value: float, digits: int) -> float:
    """A number with so many significant digits, whole if it is."""
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short
