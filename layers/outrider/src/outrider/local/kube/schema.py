"""Structural schemas of custom objects: prune what is unknown, fill in defaults, validate.

Matches apiextensions-apiserver in order (prune, default, validate, then CEL rules) and in wording.
`x-kubernetes-validations` run where CEL can say something; a rule over `oldSelf` only on updates.
Of an update only what changed is looked at (CRD validation ratcheting: what stays may stay wrong).
Refuses to know which CRD a schema came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from outrider.local.kube.cel import ExpressionError, UnknownExpressionError, expression
from outrider.local.kube.objects import Obj, clone
from outrider.local.kube.status import Cause

Schema = Mapping[str, Any]
_ROOT_FIELDS = frozenset({"apiVersion", "kind", "metadata"})
_EMPTY: Schema = {}


def prune(value: Any, schema: Schema, path: str = "", *, root: bool = False) -> Iterator[str]:
    """Remove fields that *schema* does not know from *value* in place; yield their paths."""
    if isinstance(value, dict):
        yield from _prune_map(
            value, schema, path, root=root or bool(schema.get("x-kubernetes-embedded-resource"))
        )
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from prune(item, schema.get("items") or _EMPTY, f"{path}[{place}]")


def _prune_map(value: Obj, schema: Schema, path: str, *, root: bool) -> Iterator[str]:
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    keep_all = schema.get("x-kubernetes-preserve-unknown-fields")
    for name in list(value):
        here = f"{path}.{name}" if path else name
        if root and name in _ROOT_FIELDS:
            continue
        if name in properties:
            yield from prune(value[name], properties[name], here)
        elif isinstance(additional, Mapping):
            yield from prune(value[name], additional, here)
        elif not additional and not keep_all:
            del value[name]
            yield here


def fill_defaults(value: Any, schema: Schema) -> None:
    """Put the defaults of *schema* where *value* has nothing, in place."""
    if isinstance(value, dict):
        for name, below in (schema.get("properties") or {}).items():
            absent = name not in value or (value[name] is None and not below.get("nullable"))
            if absent and "default" in below:
                value[name] = clone({"value": below["default"]})["value"]
            if name in value:
                fill_defaults(value[name], below)
        additional = schema.get("additionalProperties")
        if isinstance(additional, Mapping):
            for name in value.keys() - (schema.get("properties") or {}).keys():
                fill_defaults(value[name], additional)
    elif isinstance(value, list):
        for item in value:
            fill_defaults(item, schema.get("items") or _EMPTY)


def validate(value: Any, schema: Schema, path: str = "", old: Any = None) -> Iterator[Cause]:
    """Yield what is wrong with *value* under *schema*; *old* is the value that it replaces."""
    if old is not None and _text(old) == _text(value):
        return
    if value is None:
        if not schema.get("nullable") and schema.get("type"):
            yield _wrong_type(path, "null", schema["type"])
        return
    kind = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield _wrong_type(path, _type_name(value), "integer,string")
            return
    elif kind and not _is_of(value, kind):
        yield _wrong_type(path, _type_name(value), kind)
        return
    found = [*_scalar(value, schema, path), *_junctors(value, schema, path)]
    if isinstance(value, dict):
        found += _validate_map(value, schema, path, old)
    elif isinstance(value, list):
        found += _validate_list(value, schema, path, old)
    yield from found
    if not found:  # rules trust the types of what they look at
        yield from _rules(value, schema, path, old)


def _validate_map(value: Obj, schema: Schema, path: str, old: Any) -> Iterator[Cause]:
    for name in schema.get("required") or ():
        if name not in value:
            yield _join(path, name), "FieldValueRequired", "Required value"
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        yield path, "FieldValueTooMany", _too_many(len(value), schema["maxProperties"])
    if len(value) < schema.get("minProperties", 0):
        yield _bad(path, value, f"should have at least {schema['minProperties']} properties")
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    before = old if isinstance(old, dict) else {}
    for name, below in value.items():
        inner = properties.get(name, additional)
        if isinstance(inner, Mapping) and not (not path and name in _ROOT_FIELDS):
            yield from validate(below, inner, _join(path, name), before.get(name))


def _validate_list(value: list[Any], schema: Schema, path: str, old: Any) -> Iterator[Cause]:
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        yield path, "FieldValueTooMany", _too_many(len(value), schema["maxItems"])
    if len(value) < schema.get("minItems", 0):
        yield _bad(path, len(value), f"should have at least {schema['minItems']} items")
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    unique = schema.get("x-kubernetes-list-type") in {"map", "set"} or schema.get("uniqueItems")

    def name_of(item: Any) -> Any:
        return {key: item.get(key) for key in keys} if keys and isinstance(item, dict) else item

    before = {_text(name_of(item)): item for item in old} if keys and isinstance(old, list) else {}
    seen = set()
    for place, item in enumerate(value):
        here = f"{path}[{place}]"
        name = _text(name_of(item))
        if unique and name in seen:
            yield here, "FieldValueDuplicate", f"Duplicate value: {name}"
        seen.add(name)
        yield from validate(item, schema.get("items") or _EMPTY, here, before.get(name))


def _scalar(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    allowed = schema.get("enum")
    if allowed is not None and value not in allowed:
        listed = ", ".join(_text(one) for one in allowed)
        message = f"Unsupported value: {_text(value)}: supported values: {listed}"
        yield path, "FieldValueNotSupported", message
    if isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(value, schema, path)


def _string(value: str, schema: Schema, path: str) -> Iterator[Cause]:
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        message = f"Too long: may not be more than {schema['maxLength']} bytes"
        yield path, "FieldValueTooLong", message
    if len(value) < schema.get("minLength", 0):
        yield _bad(path, value, f"should be at least {schema['minLength']} chars long")
    pattern = schema.get("pattern")
    if pattern and not re.search(pattern, value):
        yield _bad(path, value, f"should match '{pattern}'")
    if schema.get("format") == "date-time" and not _is_date_time(value):
        yield _bad(path, value, f'must be of type date-time: "{value}"')


def _number(value: float, schema: Schema, path: str) -> Iterator[Cause]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value <= low if schema.get("exclusiveMinimum") else value < low):
        yield _bad(path, value, f"should be greater than or equal to {low}")
    if high is not None and (value >= high if schema.get("exclusiveMaximum") else value > high):
        yield _bad(path, value, f"should be less than or equal to {high}")
    if schema.get("format") == "int32" and not -(2**31) <= value < 2**31:
        yield _bad(path, value, "must be of type int32")
    if schema.get("multipleOf") and value % schema["multipleOf"]:
        yield _bad(path, value, f"should be a multiple of {schema['multipleOf']}")


def _junctors(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    def fits(option: Schema) -> bool:
        return not any(validate(value, option, path))

    for part in schema.get("allOf") or ():
        yield from validate(value, part, path)
    any_of, one_of, excluded = schema.get("anyOf"), schema.get("oneOf"), schema.get("not")
    if any_of and not schema.get("x-kubernetes-int-or-string") and not any(map(fits, any_of)):
        yield _bad(path, value, "must validate at least one schema (anyOf)")
    if one_of and sum(map(fits, one_of)) != 1:
        yield _bad(path, value, "must validate one and only one schema (oneOf)")
    if excluded and fits(excluded):
        yield _bad(path, value, "must not validate the schema (not)")


def _rules(value: Any, schema: Schema, path: str, old: Any) -> Iterator[Cause]:
    for rule in schema.get("x-kubernetes-validations") or ():
        variables = {"self": value}
        if re.search(r"\boldSelf\b", rule["rule"]):
            if old is None:
                continue
            variables["oldSelf"] = old
        compiled = expression(rule["rule"])
        if compiled is None:
            continue
        try:
            holds = compiled.holds(variables)
            message = rule.get("message") or f"failed rule: {rule['rule']}"
        except UnknownExpressionError:
            continue
        except ExpressionError as cause:
            holds, message = False, f"rule evaluation error: {cause}"
        if not holds:
            field = _join(path, rule["fieldPath"].lstrip(".")) if rule.get("fieldPath") else path
            reason = rule.get("reason", "FieldValueInvalid")
            yield field, reason, f"Invalid value: {_shown(value)}: {message}"


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def _is_of(value: Any, kind: str) -> bool:
    test = _TYPES.get(kind)
    return test is None or test(value)


def _type_name(value: Any) -> str:
    for name in ("object", "array", "string", "boolean", "integer", "number"):
        if _TYPES[name](value):
            return name
    return "null"


def _wrong_type(path: str, have: str, want: str) -> Cause:
    message = f'Invalid value: "{have}": {path} in body must be of type {want}: "{have}"'
    return path, "FieldValueTypeInvalid", message


def _bad(path: str, value: Any, problem: str) -> Cause:
    return path, "FieldValueInvalid", f"Invalid value: {_shown(value)}: {path} in body {problem}"


def _shown(value: Any) -> str:
    return f'"{_type_name(value)}"' if isinstance(value, dict | list) else _text(value)


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _too_many(have: int, most: int) -> str:
    return f"Too many: {have}: must have at most {most} items"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_date_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def unknown_fields_message(paths: Sequence[str]) -> str:
    """Word the refusal of fields that were pruned under `fieldValidation=Strict`."""
    listed = ", ".join(f'unknown field "{path}"' for path in paths)
    return f"strict decoding error: {listed}"
