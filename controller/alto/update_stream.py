"""One update stream (RFC 8895): which resources a client watches, and the events that tell it what has changed.

Pure: `events` is asked whenever there may be news. After its first, whole answer a substream gets JSON merge patches
(RFC 7396), unless its client wants none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from controller.alto import alto_types as media
from controller.alto.alto_query import NAME, AltoError, field, missing, names, wrong_value
from controller.alto.alto_resources import UPDATES, AltoResources
from controller.alto.alto_types import AltoRequest, AltoResource, Answer, NoSnapshotError
from controller.alto.fabric_costs import AltoSnapshot
from controller.alto.path_vectors import multipart

MOST_SUBSTREAMS = 16
"""Of one stream."""


class StreamEvent(NamedTuple):
    """A server-sent event; `data` may have several lines."""

    kind: str
    data: str

    def encode(self) -> bytes:
        lines = [f"event: {self.kind}", *(f"data: {line}" for line in self.data.split("\n"))]
        return ("\n".join(lines) + "\n\n").encode()


@dataclass
class _Substream:
    """A watched resource. `told`: the last answer that the client has; None before the first."""

    resource: AltoResource
    given: Mapping[str, Any]
    incremental: bool
    told: Answer | None = None


class UpdateStream:
    """The substreams of one client. `start` and `control` raise AltoError, and change nothing, for a wrong request."""

    def __init__(self, resources: AltoResources, client: str, control_uri: str) -> None:
        self._resources = resources
        self._client = client
        self._substreams: dict[str, _Substream] = {}
        self._notices: list[dict[str, Any]] = [{"control-uri": control_uri}]

    @property
    def ended(self) -> bool:
        """Whether nothing is watched any more."""
        return not self._substreams

    def start(self, given: Mapping[str, Any]) -> None:
        """Begin with what the client's first request adds."""
        if "add" not in given:
            raise missing("add")
        self._substreams = self._added(given)
        if not self._substreams:
            raise wrong_value("add", {})

    def control(self, given: Mapping[str, Any]) -> None:
        """Take the removals and additions of a stream control request (RFC 8895, 7)."""
        if not given.keys() & {"add", "remove"}:
            raise missing("add")
        removed = names(given, "remove")
        for one in removed:
            if one not in self._substreams:
                raise wrong_value("remove", one)
        added = self._added(given) if "add" in given else {}
        self._substreams = {name: one for name, one in self._substreams.items() if name not in removed} | added
        for what, which in (("stopped", removed), ("started", list(added))):
            if which:
                self._notices.append({what: which})

    def events(self, snapshot: AltoSnapshot | None) -> list[StreamEvent]:
        """What the client does not know yet; a map comes before what depends on it."""
        found = [StreamEvent(media.UPDATE_STREAM_CONTROL, _one_line(notice)) for notice in self._notices]
        self._notices = []
        place = list(self._resources.by_id)
        for name, one in sorted(self._substreams.items(), key=lambda pair: place.index(pair[1].resource.id)):
            assert one.resource.answer is not None
            try:
                answer = one.resource.answer(AltoRequest(one.given, self._client, snapshot))
            except NoSnapshotError:
                continue
            found += _news(name, one, answer)
            one.told = answer
        return found

    def _added(self, given: Mapping[str, Any]) -> dict[str, _Substream]:
        asked = field(given, "add", dict)
        added = {name: self._substream(name, one) for name, one in asked.items()}
        if len(added) + len(self._substreams) > MOST_SUBSTREAMS:
            raise wrong_value("add", f"more than {MOST_SUBSTREAMS} substreams")
        return added

    def _substream(self, name: str, asked: object) -> _Substream:
        place = f"add/{name[:64]}"
        if not NAME.fullmatch(name) or name in self._substreams:
            raise wrong_value("add", name)
        if not isinstance(asked, dict):
            raise AltoError("E_INVALID_FIELD_TYPE", place)
        wanted = field(asked, f"{place}/resource-id", str)
        if wanted not in self._resources.by_id[UPDATES].uses:
            raise wrong_value(f"{place}/resource-id", wanted)
        resource = self._resources.by_id[wanted]
        incremental = field(asked, f"{place}/incremental-changes", bool, optional=True) is not False
        tag = field(asked, f"{place}/tag", str, optional=True)
        given = field(asked, f"{place}/input", dict) if resource.accepts else {}
        substream = _Substream(resource, given, incremental)
        assert resource.answer is not None
        try:
            answer = resource.answer(AltoRequest(given, self._client))
        except NoSnapshotError:
            return substream
        except AltoError as problem:
            raise AltoError(problem.code, f"{place}/input/{problem.place}", problem.value) from None
        if tag is not None and answer[0].document["meta"].get("vtag", {}).get("tag") == tag:
            substream.told = answer  # the client has this version
        return substream


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7396) from one object to another; empty where they are equal."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := merge_patch(old, value):
                patch[name] = inner
        elif name not in before or value != old:
            patch[name] = value
    return patch


def _news(name: str, substream: _Substream, answer: Answer) -> list[StreamEvent]:
    """The events of one substream: its whole answer at first, then what differs, part by part."""
    if substream.told is None or (answer != substream.told and not substream.incremental):
        if len(answer) == 1:
            return [StreamEvent(f"{answer[0].media_type},{name}", _one_line(answer[0].document))]
        kind, body = multipart(answer, f"{name}-parts")
        return [StreamEvent(f"{kind.replace('; ', ';')},{name}", body.decode().replace("\r\n", "\n").rstrip("\n"))]
    found = []
    for old, new in zip(substream.told, answer, strict=True):
        if patch := merge_patch(old.document, new.document):
            part = f"{name}.{new.name}" if new.name else name
            found.append(StreamEvent(f"{media.MERGE_PATCH},{part}", _one_line(patch)))
    return found


def _one_line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
