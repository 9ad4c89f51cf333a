"""The models and the CustomResourceDefinitions are one: neither refuses what the other takes.

Judged by the validator of the local API server (schema and CEL), on samples of every rule and on
documents that were damaged at random. Two rules are the models' own, as they are Karpenter's: a
taint that is there twice, which CEL cannot say within its cost limit, is left out of the damage.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.apis import manifest
from outrider.apis.crds import crds
from outrider.errors import InvalidManifest
from outrider.local.kube.schema import validate
from tests.support.samples import BAD, GOOD, SPECS, changed, document

Json = dict[str, Any]
SCHEMAS = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for crd in crds()
}


def refused(whole: Json) -> str:
    """Return why the model refuses *whole*, or ""."""
    try:
        manifest.parse(whole)
    except InvalidManifest as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", SPECS)
def test_a_full_manifest_passes_both(kind: str) -> None:
    """The samples, with every field that has rules, are taken by both."""
    whole = document(kind, SPECS[kind])
    assert list(validate(whole, SCHEMAS[kind])) == []
    assert refused(whole) == ""


@pytest.mark.parametrize(("kind", "path", "value"), BAD)
def test_both_refuse(kind: str, path: str, value: Any) -> None:
    """What the API server refuses is refused before any plan is made, and the reverse."""
    whole = changed(kind, path, value)
    assert list(validate(whole, SCHEMAS[kind]))
    assert refused(whole).startswith(f"{kind} x: spec")


@pytest.mark.parametrize(("kind", "path", "value"), GOOD)
def test_both_take(kind: str, path: str, value: Any) -> None:
    """What Karpenter takes is taken, also where it looks odd."""
    whole = changed(kind, path, value)
    assert list(validate(whole, SCHEMAS[kind])) == []
    assert refused(whole) == ""


VALUES: tuple[Any, ...] = (
    -1, 0, 1, 50, 101, 70000, True, False, 1.5, "", "x", "5", "-5", "10%", "1Gi", "1h", "Never",
    "In", "Exists", "Gt", "NoSchedule", "@daily", "enabled", "not a value", "al2@latest",
    "subnet-9", "karpenter.sh/nodepool", "kubernetes.io/hostname", [], {}, ["x"], ["x", "y"],
    {"a": "b"}, {"cpu": "1"}, [{}], [{"key": "k", "operator": "Exists"}],
    {"memory.available": "1m"},
)  # fmt: skip
KEYS = (
    "a",
    "cpu",
    "nodes",
    "replicas",
    "id",
    "name",
    "tags",
    "instanceProfile",
    "values",
    "karpenter.sh/x",
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything inside *node*."""
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in children:
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


@st.composite
def damaged(draw: st.DrawFn) -> Json:
    """Return a sample in which one to three things were replaced, removed or added."""
    kind = draw(st.sampled_from(sorted(SPECS)))
    spec = copy.deepcopy(SPECS[kind])
    for _ in range(draw(st.integers(1, 3))):
        *steps, last = draw(st.sampled_from(sorted(places(spec), key=repr) or [("a",)]))
        here: Any = spec
        for step in steps:
            here = here[step]
        what = draw(st.sampled_from(("replace", "remove", "add")))
        if what == "remove":
            del here[last]
        elif what == "add" and isinstance(here, dict):
            here[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        else:
            here[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return document(kind, spec)


@settings(max_examples=200, deadline=None)
@given(damaged())
def test_damage_is_judged_alike(whole: Json) -> None:
    """Whatever happens to a manifest, the API server and the planner agree on it."""
    found = list(validate(whole, SCHEMAS[whole["kind"]]))
    why = refused(whole)
    assert bool(found) == bool(why), f"{found} against {why or 'nothing'}"


@pytest.mark.parametrize("kind", SPECS)
def test_unknown_fields_survive(kind: str) -> None:
    """Fields of a newer Karpenter come out as they went in, at every depth."""
    spec = copy.deepcopy(SPECS[kind])
    for path in [*(place for place in places(spec)), ()]:
        here: Any = spec
        for step in path:
            here = here[step]
        if isinstance(here, dict) and _is_a_piece(path):
            here["fromTheFuture"] = {"deep": [1, {"x": "y"}]}
    read: Any = manifest.parse(document(kind, spec))
    assert _futures(read.spec.to_json()) == _futures(spec) > 1


MAPS = frozenset(
    {
        *("labels", "annotations", "limits", "tags", "requests", "capacity", "kubeReserved"),
        *("systemReserved", "evictionHard", "evictionSoft", "evictionSoftGracePeriod"),
    }
)


def _is_a_piece(path: tuple[Any, ...]) -> bool:
    return not (path and path[-1] in MAPS)


def _futures(node: Any) -> int:
    if isinstance(node, dict):
        mine = node.get("fromTheFuture") == {"deep": [1, {"x": "y"}]}
        return mine + sum(_futures(child) for child in node.values())
    return sum(_futures(child) for child in node) if isinstance(node, list) else 0


def test_nulls_count_as_absent() -> None:
    """`taints: null`, as templates leave it, is no taint: the API server drops nulls first."""
    whole = changed("NodePool", "template.spec.taints", None)
    whole["spec"]["weight"] = None
    assert refused(whole) == ""
