"""What a warm sandbox remembers of the cluster: the same state of the same object, and no other."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from outrider.adapters.kube.memory import MOST_OF_PARTS, Memory, unhurried
from outrider.errors import InvalidManifest
from tests.support import builders

PODS = "/api/v1/pods"


def _pod(name: str, *, version: str = "1", uid: str = "", **metadata: Any) -> dict[str, Any]:
    document = builders.pod(name)
    known = {"uid": uid or f"uid-of-{name}", "resourceVersion": version, **metadata}
    return {**document, "metadata": {**document["metadata"], **known}}


def test_an_unchanged_object_is_the_same_one() -> None:
    """An object of the same uid and resourceVersion is handed out again, however it is read."""
    memory = Memory()
    first = memory.reading(PODS, whole=True)(_pod("one"))
    assert memory.reading(PODS, whole=False)(_pod("one")) is first
    assert memory.reading(PODS, whole=True)(_pod("one")) is first


def test_a_write_and_a_namesake_are_seen() -> None:
    """Another resourceVersion, or another object of the same name, is parsed anew."""
    memory = Memory()
    memory.reading(PODS, whole=True)(_pod("one"))
    changed = memory.reading(PODS, whole=True)(_pod("one", version="2", labels={"a": "b"}))
    assert getattr(changed, "labels", None) == {"a": "b"}
    namesake = memory.reading(PODS, whole=True)(_pod("one", version="2", uid="another"))
    assert namesake is not changed


def test_lists_are_apart() -> None:
    """An object that two lists serve in two versions is parsed in each."""
    memory = Memory()
    one = memory.reading(PODS, whole=True)(_pod("one"))
    assert memory.reading("/another", whole=True)(_pod("one")) is not one


def test_what_is_gone_is_forgotten() -> None:
    """After a list was read whole, nothing is kept of what it no longer held."""
    memory = Memory()
    parse = memory.reading(PODS, whole=True)
    first, second = parse(_pod("one")), parse(_pod("two"))
    assert memory.reading(PODS, whole=True)(_pod("two")) is second
    assert memory.reading(PODS, whole=False)(_pod("one")) is not first


def test_parts_add_up_to_a_bound() -> None:
    """A sandbox that only ever reads parts of a list keeps them to a bound."""
    memory = Memory()
    parse = memory.reading(PODS, whole=False)
    first = parse(_pod("one"))
    assert memory.reading(PODS, whole=False)(_pod("one")) is first
    for number in range(MOST_OF_PARTS):
        parse({"metadata": {"uid": f"{number}", "resourceVersion": "1"}, **_UNREAD})
    assert memory.reading(PODS, whole=False)(_pod("two")) is not None
    assert memory.reading(PODS, whole=False)(_pod("one")) is not first


_UNREAD = {"kind": "Secret", "apiVersion": "v1"}


@pytest.mark.parametrize(
    "metadata", [{"uid": None}, {"resourceVersion": None}, {"uid": 7}, {"resourceVersion": ["1"]}]
)
def test_what_has_no_identity_is_parsed_every_time(metadata: dict[str, Any]) -> None:
    """Without a uid or a resourceVersion nothing says that two objects are one."""
    memory = Memory()
    document = {**_UNREAD, "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1"}
    known = {"name": "high", "uid": "u", "resourceVersion": "1", **metadata}
    document = {**document, "metadata": known, "value": 1}
    results = []
    for _ in range(2):
        try:
            results.append(memory.reading("/p", whole=True)(document))
        except InvalidManifest:
            results.append(object())
    assert results[0] is not results[1]


def test_what_does_not_parse_is_said_every_time() -> None:
    """A malformed object is an error on every read, not only on the first."""
    memory = Memory()
    for _ in range(2):
        with pytest.raises(InvalidManifest):
            memory.reading(PODS, whole=True)(_pod("one", labels=7))


def test_the_collector_is_back_afterwards() -> None:
    """Reading leaves Python's collector as it was, also where it fails or was off before."""
    with unhurried():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), unhurried():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with unhurried():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
