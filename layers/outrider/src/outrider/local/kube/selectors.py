"""Label and field selectors, in the text form of the query and the structured form of objects.

Matches apimachinery: an unknown field label is a 400, `!=` and `notin` hold where the key is
absent. Refuses to know who selects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from outrider.local.kube.objects import Obj
from outrider.local.kube.status import bad_request

Labels = Mapping[str, str]
LabelTest = Callable[[Labels], bool]
ObjectTest = Callable[[Obj], bool]

_SET = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*(?P<key>[^\s!=,()<>]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s,()=!]*)\s*$")
_EXISTS = re.compile(r"^\s*(?P<not>!?)\s*(?P<key>[^\s!=,()<>]+)\s*$")
_COMMA = re.compile(r",(?![^(]*\))")


def parse_labels(text: str) -> LabelTest | None:
    """Return the test that a `labelSelector` query asks for, None where it selects everything."""
    if not text.strip():
        return None
    tests = [_label_requirement(part) for part in _COMMA.split(text)]
    return lambda labels: all(test(labels) for test in tests)


def _label_requirement(part: str) -> LabelTest:
    if found := _SET.match(part):
        values = {value.strip() for value in found["values"].split(",")}
        return requirement(found["key"], "In" if found["op"] == "in" else "NotIn", values)
    if found := _EQUAL.match(part):
        return requirement(found["key"], "NotIn" if found["op"] == "!=" else "In", {found["value"]})
    if found := _EXISTS.match(part):
        return requirement(found["key"], "DoesNotExist" if found["not"] else "Exists", ())
    raise bad_request(
        f'unable to parse requirement: found "{part.strip()}", expected a label selector'
    )


def requirement(key: str, operator: str, values: Iterable[str]) -> LabelTest:
    """Return the test of one requirement, with the operators of selectors and of node affinity."""
    wanted = frozenset(values)
    match operator:
        case "In":
            return lambda labels: labels.get(key) in wanted
        case "NotIn":
            return lambda labels: key not in labels or labels[key] not in wanted
        case "Exists":
            return lambda labels: key in labels
        case "DoesNotExist":
            return lambda labels: key not in labels
        case "Gt" | "Lt":
            return _numeric(key, operator, next(iter(wanted), ""))
        case _:
            raise bad_request(f'"{operator}" is not a valid label selector operator')


def _numeric(key: str, operator: str, bound: str) -> LabelTest:
    def test(labels: Labels) -> bool:
        try:
            have, limit = int(labels[key]), int(bound)
        except (KeyError, ValueError):
            return False
        return have > limit if operator == "Gt" else have < limit

    return test


def structured(selector: Obj | None) -> LabelTest:
    """Return the test of a `metav1.LabelSelector`: none selects nothing, an empty one
    everything.
    """
    if selector is None:
        return lambda _labels: False
    tests = [
        requirement(key, "In", (value,))
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    tests += [
        requirement(part["key"], part["operator"], part.get("values") or ())
        for part in selector.get("matchExpressions") or ()
    ]
    return lambda labels: all(test(labels) for test in tests)


def text_of(selector: Obj) -> str:
    """Write a `metav1.LabelSelector` as the query's text."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for part in selector.get("matchExpressions") or ():
        operator, values = part["operator"], ",".join(part.get("values") or ())
        if operator in {"In", "NotIn"}:
            parts.append(f"{part['key']} {operator.lower()} ({values})")
        else:
            parts.append(part["key"] if operator == "Exists" else f"!{part['key']}")
    return ",".join(parts)


_COMMON_FIELDS = frozenset({"metadata.name", "metadata.namespace"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "pods": frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    "nodes": frozenset({"spec.unschedulable"}),
    "namespaces": frozenset({"status.phase"}),
    "secrets": frozenset({"type"}),
    "jobs.batch": frozenset({"status.successful"}),
    "replicasets.apps": frozenset({"status.replicas"}),
    "events": frozenset(
        {"reason", "type", "source", "reportingComponent", "reportingController"}
        | {
            f"{place}.{part}"
            for place in ("involvedObject", "regarding")
            for part in (
                "kind",
                "namespace",
                "name",
                "uid",
                "apiVersion",
                "resourceVersion",
                "fieldPath",
            )
        }
    ),
}
_FIELD = re.compile(r"^(?P<path>[^=!]+?)(?P<op>==|=|!=)(?P<value>.*)$")


def parse_fields(text: str, storage: str) -> tuple[ObjectTest | None, dict[str, str]]:
    """Return the test that a `fieldSelector` asks for, and the fields that it fixes by equality."""
    tests: list[ObjectTest] = []
    fixed: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _FIELD.match(part)
        if found is None:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        path, value = found["path"].strip(), found["value"].strip()
        if path not in _COMMON_FIELDS and path not in _FIELDS.get(storage, ()):
            raise bad_request(f"field label not supported: {path}")
        equal = found["op"] != "!="
        if equal:
            fixed[path] = value
        tests.append(_field_test(path, value, equal=equal))
    if not tests:
        return None, fixed
    return (lambda obj: all(test(obj) for test in tests)), fixed


def _field_test(path: str, value: str, *, equal: bool) -> ObjectTest:
    steps = _stored_path(path)
    return lambda obj: (_field_text(obj, steps) == value) == equal


def _stored_path(path: str) -> tuple[str, ...]:
    # Events are kept in their core/v1 form, whichever version asks.
    aliases = {"reportingController": "reportingComponent", "source": "source.component"}
    path = aliases.get(path, path)
    if path.startswith("regarding."):
        path = "involvedObject." + path.removeprefix("regarding.")
    return tuple(path.split("."))


def _field_text(obj: Obj, steps: tuple[str, ...]) -> str:
    here: object = obj
    for step in steps:
        here = here.get(step) if isinstance(here, dict) else None
    if isinstance(here, bool):
        return "true" if here else "false"
    if here is None:
        return "false" if steps[-1] in {"unschedulable", "hostNetwork"} else ""
    return str(here)
