"""Which nodes a pod accepts, node by node: selectors, node affinity, taints and tolerations.

Compiled once for a pod's spec and asked for many nodes. Matches kube-scheduler's NodeAffinity and
TaintToleration plugins: terms are alternatives, an empty term matches nothing, an empty effect or
key of a toleration matches all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from outrider.local.kube.objects import Obj, labels_of
from outrider.local.kube.selectors import LabelTest, requirement

NodeTest = Callable[[Obj], bool]

UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def tolerates(tolerations: Iterable[Obj], taint: Obj) -> Obj | None:
    """Return the toleration that tolerates *taint*, None where none does."""
    for one in tolerations:
        if one.get("effect") and one["effect"] != taint.get("effect"):
            continue
        if one.get("key") and one["key"] != taint.get("key"):
            continue
        operator = one.get("operator") or "Equal"
        if operator == "Exists" or (
            operator == "Equal" and (one.get("value") or "") == (taint.get("value") or "")
        ):
            return one
    return None


def untolerated(node: Obj, tolerations: Sequence[Obj], effects: Iterable[str]) -> Obj | None:
    """Return the first taint of *node* with one of *effects* that is not tolerated."""
    wanted = set(effects)
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint.get("effect") in wanted and tolerates(tolerations, taint) is None:
            found: Obj = taint
            return found
    return None


def node_affinity(spec: Obj) -> NodeTest | None:
    """Return the test of a pod *spec*'s nodeSelector and required node affinity, None for no
    demand.
    """
    tests: list[NodeTest] = []
    selector = spec.get("nodeSelector")
    if selector:
        wanted = list(selector.items())
        tests.append(lambda node: all(labels_of(node).get(key) == value for key, value in wanted))
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None:
        tests.append(node_selector(required))
    if not tests:
        return None
    return lambda node: all(test(node) for test in tests)


def node_selector(selector: Obj) -> NodeTest:
    """Return the test of a NodeSelector: any of its terms."""
    terms = [node_term(term) for term in selector.get("nodeSelectorTerms") or ()]
    return lambda node: any(term(node) for term in terms)


def node_term(term: Obj) -> NodeTest:
    """Return the test of one NodeSelectorTerm: all of its expressions and fields."""
    labels = [_requirement(one) for one in term.get("matchExpressions") or ()]
    fields = [_requirement(one) for one in term.get("matchFields") or ()]
    if not labels and not fields:
        return lambda _node: False

    def test(node: Obj) -> bool:
        known = {"metadata.name": node["metadata"]["name"]}
        return all(one(labels_of(node)) for one in labels) and all(one(known) for one in fields)

    return test


def _requirement(one: Obj) -> LabelTest:
    return requirement(one["key"], one["operator"], one.get("values") or ())
