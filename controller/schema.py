"""Validation against the JSON schema of `netkv.cost/v1`, for the publisher and for readers.

The schema is the JSON file beside this module; authors of other routers can use it as it is.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA_FILE = Path(__file__).with_name("netkv.cost.v1.schema.json")


class SchemaError(ValueError):
    """A document that is not `netkv.cost/v1`; the message names the place in it and the reason."""


def check_document(document: Any) -> None:
    """SchemaError unless the document conforms to the schema."""
    problem = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if problem is not None:
        place = ".".join(str(part) for part in problem.absolute_path) or "document"
        raise SchemaError(f"{place}: {problem.message[:200]}")


@cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
