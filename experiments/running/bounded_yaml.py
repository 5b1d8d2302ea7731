"""YAML of a user, bounded before it is built: its length, its depth, what its aliases come to, no tags, no name twice.

A short text can stand for more than any memory holds: each alias repeats a whole part, and parts may hold aliases. A
tag (`!!int`) asks for a type that the value may not have. Both are counted or refused while the text is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

MOST_BYTES = 1 << 18
"""A specification with every field and comment has 20 KB."""
MOST_NODES = 20_000
"""Values and names, those that aliases repeat counted each time."""
DEEPEST = 50


class _Loader(yaml.SafeLoader):
    """YAML's safe types alone. MarkedYAMLError for a text beyond a bound."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        name = event.anchor if isinstance(event, yaml.NodeEvent) else None
        if isinstance(event, yaml.AliasEvent):
            if name in self.anchors and name not in self._sizes:
                raise self._refusal(event, "a field that holds itself: write it out")
            self._count(event, self._sizes.get(name or "", 1))
            return super().compose_node(parent, index)
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag not in (None, "!"):
            raise self._refusal(event, f"a tag ({event.tag[:40]}), a plain value was expected: leave the tag out")
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._refusal(event, f"nested deeper than {DEEPEST}")
        before = self._nodes
        self._count(event, 1)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if name is not None:
            self._sizes[name] = self._nodes - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    mark: Any = key.start_mark
                    problem = f"{key.value[:40]!r} twice, first on line {seen[key.value]}: leave one of them"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
                seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise self._refusal(event, f"more than {MOST_NODES:,} values, its aliases written out")

    def _refusal(self, event: yaml.Event, problem: str) -> yaml.MarkedYAMLError:
        mark: Any = event.start_mark
        return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def load_yaml(text: str) -> Any:
    """The value that a YAML text stands for. yaml.YAMLError, or ValueError for an impossible date or a number of
    thousands of digits."""
    if len(text) > MOST_BYTES:
        raise yaml.YAMLError(f"longer than {MOST_BYTES >> 10} KiB")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def mark_of(text: str, path: Sequence[str]) -> str:
    """`:line:column` of the field of that path in a YAML text, or of the nearest one that it has of its sections.

    Empty where the text has none of them. A name that may not be there is found, too: its own place is shown.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        mark: Any = None
        for name in path:
            inner = _inner(node, name)
            if inner is None:
                break
            mark, node = inner
        return "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
    except yaml.YAMLError:
        return ""
    finally:
        loader.dispose()


def _inner(node: yaml.Node | None, name: str) -> tuple[Any, yaml.Node] | None:
    """Where a mapping's field or a list's entry begins, and its value."""
    if isinstance(node, yaml.MappingNode):
        found = ((key.start_mark, value) for key, value in node.value if getattr(key, "value", None) == name)
        return next(found, None)
    if isinstance(node, yaml.SequenceNode) and name.isdecimal() and int(name) < len(node.value):
        value = node.value[int(name)]
        return value.start_mark, value
    return None
