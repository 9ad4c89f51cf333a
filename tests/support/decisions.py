"""Our own messages, held against their schemas: whoever sees one published asks here.

`check` is what a fake bus and the stage call for every message. A detail may have no field that its
schema does not name: what nobody can read up is not published.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

OUT = Path(__file__).resolve().parents[2] / "events" / "out"


@cache
def detail_schema(detail_type: str) -> Mapping[str, Any]:
    """Return the schema of the detail of *detail_type*."""
    path = OUT / f"{detail_type}.schema.json"
    assert path.exists(), f"{detail_type} is published and not in events/out"
    found: Mapping[str, Any] = json.loads(path.read_text())["properties"]["detail"]
    return found


@cache
def _validator(detail_type: str) -> Draft202012Validator:
    return Draft202012Validator(detail_schema(detail_type))


def check(detail_type: str, detail: Mapping[str, Any]) -> None:
    """Fail unless *detail*, as it goes over the wire, is what *detail_type* promises."""
    told = json.loads(json.dumps(detail, default=str))
    unknown = set(told) - set(detail_schema(detail_type)["properties"])
    assert not unknown, f"{detail_type} has fields that its schema does not name: {unknown}"
    problems = [error.message for error in _validator(detail_type).iter_errors(told)]
    assert not problems, f"{detail_type}: {problems}"
