"""The scheduler's picture of the cluster: nodes, what runs on them, and counted selections of pods.

Spread and pod affinity ask how many pods of some selection are on each node. Each selection that
anybody asks for is counted once and kept up to date as pods come and go, so that an answer costs no
walk over all pods. Refuses to know what is decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from outrider.local.kube.objects import Obj, is_leaving, labels_of, uid_of
from outrider.local.kube.quantities import Amounts, add, amounts
from outrider.local.kube.scheduler.template import Port, Template, Templates, Term
from outrider.local.kube.selectors import structured

PodTest = Callable[[str, Obj], bool]  # namespace, labels


class Placed:
    """A pod on a node."""

    __slots__ = ("leaving", "pod", "template")

    def __init__(self, pod: Obj, template: Template) -> None:
        self.pod = pod
        self.template = template
        self.leaving = is_leaving(pod)


class NodeInfo:
    """A node and what is left of it."""

    __slots__ = ("allocatable", "node", "pods", "ports", "used")

    def __init__(self, node: Obj) -> None:
        self.pods: dict[str, Placed] = {}
        self.used: Amounts = {}
        self.ports: Counter[Port] = Counter()
        self.set(node)

    def set(self, node: Obj) -> None:
        """Take over a new state of the node."""
        self.node = node
        self.allocatable = amounts((node.get("status") or {}).get("allocatable"))

    @property
    def name(self) -> str:
        """Return the node's name."""
        name: str = self.node["metadata"]["name"]
        return name

    @property
    def labels(self) -> Obj:
        """Return the node's labels."""
        labels: Obj = self.node["metadata"].get("labels") or {}
        return labels

    def add(self, placed: Placed) -> None:
        """Count *placed*."""
        self.pods[uid_of(placed.pod)] = placed
        add(self.used, placed.template.requests)
        self.ports.update(placed.template.ports)

    def remove(self, uid: str) -> Placed | None:
        """Stop counting the pod with *uid*."""
        placed = self.pods.pop(uid, None)
        if placed is not None:
            add(self.used, {name: -value for name, value in placed.template.requests.items()})
            self.ports.subtract(placed.template.ports)
            self.ports += Counter()
        return placed


class Selected:
    """How many pods of one selection are on each node."""

    __slots__ = ("_test", "per_node", "skip_leaving", "total")

    def __init__(self, test: PodTest, *, skip_leaving: bool) -> None:
        self._test = test
        self.skip_leaving = skip_leaving
        self.per_node: dict[str, int] = {}
        self.total = 0

    def matches(self, namespace: str, labels: Obj) -> bool:
        """Tell whether a pod with *labels* in *namespace* is selected."""
        return self._test(namespace, labels)

    def count(self, node: str, placed: Placed, sign: int) -> None:
        """Add or take away one pod on *node*."""
        if self.skip_leaving and placed.leaving:
            return
        if self._test(placed.template.namespace, placed.pod["metadata"].get("labels") or {}):
            self.per_node[node] = self.per_node.get(node, 0) + sign
            self.total += sign
            if not self.per_node[node]:
                del self.per_node[node]


class Cluster:
    """Nodes by name, pods by where they are."""

    def __init__(self, namespaces: Callable[[str], Obj]) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.templates = Templates()
        self.shape_version = 0  # moves when a node's labels, taints or existence change
        self._namespace_labels = namespaces
        self._where: dict[str, str] = {}
        self._homeless: dict[str, dict[str, Placed]] = {}
        self._selected: dict[tuple[bytes, bool], Selected] = {}
        self._guards: dict[bytes, tuple[Term, Selected]] = {}

    def set_node(self, node: Obj) -> None:
        """Add a node or take over its new state."""
        name = node["metadata"]["name"]
        info = self.nodes.get(name)
        if info is None:
            info = self.nodes[name] = NodeInfo(node)
            self.shape_version += 1
            for placed in self._homeless.pop(name, {}).values():
                self._put(info, placed)
        else:
            if _shape(info.node) != _shape(node):
                self.shape_version += 1
            info.set(node)

    def drop_node(self, name: str) -> None:
        """Forget a node; its pods are counted again should it return."""
        info = self.nodes.get(name)
        if info is None:
            return
        for uid, placed in list(info.pods.items()):
            self._take(info, uid)
            self._homeless.setdefault(name, {})[uid] = placed
        del self.nodes[name]
        self.shape_version += 1

    def set_pod(self, pod: Obj, node: str) -> None:
        """Count *pod* on *node*, in place of an earlier state of it."""
        uid = uid_of(pod)
        self.drop_pod(uid)
        self._where[uid] = node
        placed = Placed(pod, self.templates.of(pod))
        info = self.nodes.get(node)
        if info is None:
            self._homeless.setdefault(node, {})[uid] = placed
        else:
            self._put(info, placed)

    def drop_pod(self, uid: str) -> bool:
        """Stop counting the pod with *uid*; return whether it was counted."""
        node = self._where.pop(uid, None)
        if node is None:
            return False
        info = self.nodes.get(node)
        if info is None:
            self._homeless.get(node, {}).pop(uid, None)
        else:
            self._take(info, uid)
        return True

    @contextmanager
    def guests(self, info: NodeInfo, coming: Iterable[tuple[str, Placed]]) -> Iterator[None]:
        """Count the pods that are *coming* to *info* for a while as if they were there."""
        there = list(coming)
        for _, placed in there:
            self._put(info, placed)
        try:
            yield
        finally:
            for uid, _ in there:
                self._take(info, uid)

    def node_of(self, uid: str) -> str | None:
        """Return the node on which the pod with *uid* is counted."""
        return self._where.get(uid)

    def selected(self, term: Term, *, skip_leaving: bool) -> Selected:
        """Return the counts of the pods that *term* selects."""
        key = term.scope, skip_leaving
        found = self._selected.get(key)
        if found is None:
            found = self._selected[key] = Selected(self._test(term), skip_leaving=skip_leaving)
            for name, info in self.nodes.items():
                for placed in info.pods.values():
                    found.count(name, placed, 1)
        return found

    def guards(self) -> Iterable[tuple[Term, Selected]]:
        """Return the required anti-affinity terms of placed pods, each with its owners' counts."""
        return self._guards.values()

    def test(self, term: Term) -> PodTest:
        """Return the test of the pods that *term* selects."""
        return self._test(term)

    def namespaces_changed(self) -> None:
        """Count selections anew: namespace selectors may select others now."""
        self._selected.clear()

    def _test(self, term: Term) -> PodTest:
        selects = structured(term.selector)
        names = frozenset(term.namespaces)
        if term.namespace_selector is None:
            return lambda namespace, labels: namespace in names and selects(labels)
        chosen = structured(term.namespace_selector)
        return lambda namespace, labels: (
            (namespace in names or chosen(self._namespace_labels(namespace))) and selects(labels)
        )

    def _put(self, info: NodeInfo, placed: Placed) -> None:
        info.add(placed)
        self._count(info.name, placed, 1)

    def _take(self, info: NodeInfo, uid: str) -> None:
        placed = info.remove(uid)
        if placed is not None:
            self._count(info.name, placed, -1)

    def _count(self, node: str, placed: Placed, sign: int) -> None:
        for selected in self._selected.values():
            selected.count(node, placed, sign)
        for term in placed.template.anti_affinity:
            key = term.scope + term.key.encode()
            if key not in self._guards:
                self._guards[key] = (
                    term,
                    Selected(lambda _namespace, _labels: True, skip_leaving=False),
                )
            owners = self._guards[key][1]
            owners.count(node, placed, sign)
            if not owners.per_node:
                del self._guards[key]


def _shape(node: Obj) -> tuple[object, ...]:
    spec = node.get("spec") or {}
    return labels_of(node), spec.get("taints"), spec.get("unschedulable")
