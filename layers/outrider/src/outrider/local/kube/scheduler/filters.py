"""Which nodes a pod can go to, and for each other node why not, in kube-scheduler's words and
order.

Static reasons (cordon, taints, affinity) are kept for each template until a node's shape changes;
the rest is looked at for each pod. A reason that removing pods cannot cure is marked as such,
because preemption asks. Refuses to know which node is best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from outrider.local.kube.matching import UNSCHEDULABLE, tolerates, untolerated
from outrider.local.kube.objects import Obj
from outrider.local.kube.quantities import Amounts
from outrider.local.kube.scheduler.cluster import Cluster, NodeInfo, Placed
from outrider.local.kube.scheduler.template import Port, Spread, Template, Term
from outrider.local.kube.scheduler.volumes import VolumeView

CORDONED = "node(s) were unschedulable"
TAINTED = "node(s) had untolerated taint(s)"
UNLIKED = "node(s) didn't match Pod's node affinity/selector"
FILTERED = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
PORTS = "node(s) didn't have free ports for the requested pod ports"
TOO_MANY = "Too many pods"
SKEWED = "node(s) didn't match pod topology spread constraints"
NO_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"
NO_FRIEND = "node(s) didn't match pod affinity rules"
FOE = "node(s) didn't match pod anti-affinity rules"
GUARDED = "node(s) didn't satisfy existing pods anti-affinity rules"
DEVICES = "cannot allocate all claims"

Nominated = Mapping[str, list[tuple[str, Placed]]]  # node: pods that are to come there
NodeCheck = Callable[[NodeInfo], str]


@dataclass(slots=True)
class Feasible:
    """The nodes that remain, and the reasons of the others."""

    nodes: list[NodeInfo] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    hopeless: int = 0  # nodes that preemption cannot help
    curable: list[NodeInfo] = field(default_factory=list)
    refusal: str = ""  # the pod itself cannot be placed, wherever


class Filters:
    """Filters nodes for templates over one Cluster."""

    def __init__(self, cluster: Cluster, volumes: VolumeView) -> None:
        self._cluster = cluster
        self._volumes = volumes
        self._static: dict[bytes, tuple[list[NodeInfo], Counter[str]]] = {}
        self._version = -1

    def feasible(self, template: Template, uid: str, nominated: Nominated) -> Feasible:
        """Return where a pod of *template* can go now."""
        found = Feasible()
        found.refusal = self._volumes.refusal(template)
        candidates, reasons = self._candidates(template)
        found.reasons.update(reasons)
        found.hopeless = sum(reasons.values())
        if found.refusal:
            found.hopeless = len(self._cluster.nodes)
            return found
        if template.needs_devices:
            found.reasons[DEVICES] += len(candidates)
            found.hopeless += len(candidates)
            return found
        checks = self.pod_checks(template)
        for info in candidates:
            self._look(info, template, uid, nominated, checks, found)
        return found

    def suits(self, info: NodeInfo, template: Template, uid: str, nominated: Nominated) -> bool:
        """Tell whether *info* alone would do."""
        candidates, _ = self._candidates(template)
        if template.needs_devices or self._volumes.refusal(template) or info not in candidates:
            return False
        found = Feasible()
        self._look(info, template, uid, nominated, self.pod_checks(template), found)
        return bool(found.nodes)

    def may_suit(self, info: NodeInfo, template: Template) -> bool:
        """Tell whether a change of *info* is reason enough to try *template* again."""
        if template.only_nodes is not None and info.name not in template.only_nodes:
            return False
        if _static_reason(info.node, template):
            return False
        could_preempt = template.priority > 0 and template.may_preempt
        return could_preempt or not any(lacks(info, template))

    def pod_checks(self, template: Template) -> list[NodeCheck]:
        """Return the checks that depend on volumes and other pods, prepared for *template* as of
        now.
        """
        checks: list[NodeCheck] = []
        if template.claims:
            checks.append(lambda info: self._volumes.why_not(template, info))
        hard = [one for one in template.spreads if one.hard]
        if hard:
            checks.extend(spread_check(self._cluster, template, one) for one in hard)
        checks.extend(self._affinity_checks(template))
        return checks

    def _look(
        self,
        info: NodeInfo,
        template: Template,
        uid: str,
        nominated: Nominated,
        checks: Iterable[NodeCheck],
        found: Feasible,
    ) -> None:
        coming = [
            (other_uid, other)
            for other_uid, other in nominated.get(info.name, ())
            if other_uid != uid and other.template.priority >= template.priority
        ]
        why = list(lacks(info, template, [other.template for _, other in coming]))
        if not why:
            first = next(filter(None, (check(info) for check in checks)), "")
            first = first or self._beside(info, template, coming)
            why = [first] if first else []
        if not why:
            found.nodes.append(info)
            return
        found.reasons.update(why)
        if why[0] in _HOPELESS or self._volumes.is_hopeless(why[0]):
            found.hopeless += 1
        else:
            found.curable.append(info)

    def _beside(
        self, info: NodeInfo, template: Template, coming: Sequence[tuple[str, Placed]]
    ) -> str:
        """Return what speaks against *info* once those that are nominated to it are there.

        kube-scheduler asks both ways: spread and affinity have to hold with them and without.
        """
        if not coming or not (
            template.depends_on_pods
            or template.anti_affinity
            or any(other.template.anti_affinity for _, other in coming)
        ):
            return ""
        with self._cluster.guests(info, coming):
            checks = self.pod_checks(template)
            return next(filter(None, (check(info) for check in checks)), "")

    def _candidates(self, template: Template) -> tuple[list[NodeInfo], Counter[str]]:
        if self._version != self._cluster.shape_version:
            self._static.clear()
            self._version = self._cluster.shape_version
        found = self._static.get(template.signature)
        if found is None:
            found = self._static[template.signature] = self._sift(template)
        return found

    def _sift(self, template: Template) -> tuple[list[NodeInfo], Counter[str]]:
        reasons: Counter[str] = Counter()
        nodes = self._cluster.nodes
        pool: Iterable[NodeInfo] = nodes.values()
        if template.only_nodes is not None:
            pool = [nodes[name] for name in sorted(template.only_nodes) if name in nodes]
            left_out = len(nodes) - len(pool)
            if left_out:
                reasons[FILTERED] = left_out
        kept = []
        for info in pool:
            why = _static_reason(info.node, template)
            if why:
                reasons[why] += 1
            else:
                kept.append(info)
        return kept, reasons

    def _affinity_checks(self, template: Template) -> Iterator[NodeCheck]:
        guards = [
            (term, owners)
            for term, owners in self._cluster.guards()
            if self._cluster.test(term)(template.namespace, template.labels)
        ]
        if guards:
            blocked = {
                (term.key, one)
                for term, owners in guards
                for one in self._domains(term.key, owners.per_node)
            }
            keys = {term.key for term, _ in guards}
            yield (
                lambda info: (
                    GUARDED if any((key, info.labels.get(key)) in blocked for key in keys) else ""
                )
            )
        if template.affinity:
            yield self._friends_check(template)
        for term in template.anti_affinity:
            selected = self._cluster.selected(term, skip_leaving=False)
            yield _foe_check(term.key, self._domains(term.key, selected.per_node))

    def _friends_check(self, template: Template) -> NodeCheck:
        terms = [
            (term, self._cluster.selected(term, skip_leaving=False)) for term in template.affinity
        ]
        first_of_all = all(
            selected.total == 0 and selected.matches(template.namespace, template.labels)
            for _, selected in terms
        )
        homes = [(term.key, self._domains(term.key, selected.per_node)) for term, selected in terms]

        def check(info: NodeInfo) -> str:
            for key, domains in homes:
                domain = info.labels.get(key)
                if domain is None or (not first_of_all and domain not in domains):
                    return NO_FRIEND
            return ""

        return check

    def _domains(self, key: str, per_node: Mapping[str, int]) -> frozenset[str]:
        nodes = self._cluster.nodes
        found = (nodes[name].labels.get(key) for name in per_node if name in nodes)
        return frozenset(one for one in found if one is not None)


_HOPELESS = frozenset({NO_LABEL, NO_FRIEND, DEVICES})


def _foe_check(key: str, domains: frozenset[str]) -> NodeCheck:
    return lambda info: FOE if info.labels.get(key) in domains else ""


def _static_reason(node: Obj, template: Template) -> str:
    if (node.get("spec") or {}).get("unschedulable") and not tolerates(
        template.tolerations, UNSCHEDULABLE
    ):
        return CORDONED
    if untolerated(node, template.tolerations, ("NoSchedule", "NoExecute")) is not None:
        return TAINTED
    if template.fits is not None and not template.fits(node):
        return UNLIKED
    return ""


def lacks(info: NodeInfo, template: Template, coming: Iterable[Template] = ()) -> Iterator[str]:
    """Yield what *info* has too little of for a pod of *template* next to those that are
    *coming*.
    """
    if template.ports and _port_taken(template.ports, info.ports):
        yield PORTS
        return
    others = list(coming)
    allocatable, used = info.allocatable, info.used
    if len(info.pods) + len(others) + 1 > allocatable.get("pods", 0):
        yield TOO_MANY
    for name, value in template.requests.items():
        held = used.get(name, 0)
        for other in others:
            held += other.requests.get(name, 0)
        if value > allocatable.get(name, 0) - held:
            yield f"Insufficient {name}"


def _port_taken(wanted: frozenset[Port], taken: Mapping[Port, int]) -> bool:
    for protocol, address, number in wanted:
        for other_protocol, other_address, other_number in taken:
            same = protocol == other_protocol and number == other_number
            if same and (address == other_address or "0.0.0.0" in {address, other_address}):
                return True
    return False


def domain_counts(cluster: Cluster, template: Template, spread: Spread) -> dict[str, int]:
    """Return how many selected pods each domain of *spread* has, over the nodes that count for
    it.
    """
    term = Term(spread.key, spread.selector, (template.namespace,), None)
    per_node = cluster.selected(term, skip_leaving=True).per_node
    keys = {one.key for one in template.spreads if one.hard == spread.hard}
    counts: dict[str, int] = {}
    for name, info in cluster.nodes.items():
        labels = info.labels
        if any(key not in labels for key in keys):
            continue
        if spread.honour_affinity and template.fits is not None and not template.fits(info.node):
            continue
        if spread.honour_taints and untolerated(
            info.node, template.tolerations, ("NoSchedule", "NoExecute")
        ):
            continue
        domain = labels[spread.key]
        counts[domain] = counts.get(domain, 0) + per_node.get(name, 0)
    return counts


def spread_check(cluster: Cluster, template: Template, spread: Spread) -> NodeCheck:
    """Return the check of one hard constraint as of now."""
    counts = domain_counts(cluster, template, spread)
    least = min(counts.values(), default=0) if len(counts) >= spread.min_domains else 0
    term = Term(spread.key, spread.selector, (template.namespace,), None)
    own = int(cluster.test(term)(template.namespace, template.labels))

    def check(info: NodeInfo) -> str:
        domain = info.labels.get(spread.key)
        if domain is None:
            return NO_LABEL
        return SKEWED if counts.get(domain, 0) + own - least > spread.max_skew else ""

    return check


def without(used: Amounts, gone: Iterable[Template]) -> Amounts:
    """Return *used* without what the pods that are *gone* held."""
    left = dict(used)
    for template in gone:
        for name, value in template.requests.items():
            left[name] = left.get(name, 0) - value
    return left
