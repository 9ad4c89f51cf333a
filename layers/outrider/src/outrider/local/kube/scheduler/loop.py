"""The scheduling loop: take the next pod, place it or say why not, wait for something to change.

Pods wait in order of priority, then of creation. A pod that fails waits with its kind (all pods of
its template) until the cluster changes in a way that may help, and for a backoff of 1 to 10 s. When
one of a kind fails and nothing has grown since, the others fail with it, unlooked at: a thousand
equal pods cost one look. Only the pod that was looked at has its message refreshed; the others keep
their first.

All state belongs to one worker at a time. Refuses to know who made a node and why.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
from collections import Counter, deque
from dataclasses import dataclass, field

from outrider.local.kube.api import API
from outrider.local.kube.calls import Call, Deletion
from outrider.local.kube.controllers.volumes import SELECTED_NODE
from outrider.local.kube.eviction import budgets_of
from outrider.local.kube.objects import (
    Obj,
    condition_of,
    is_finished,
    is_leaving,
    key_of,
    labels_of,
    uid_of,
    with_condition,
)
from outrider.local.kube.scheduler.cluster import Cluster, Placed
from outrider.local.kube.scheduler.filters import Feasible, Filters
from outrider.local.kube.scheduler.preemption import rescue
from outrider.local.kube.scheduler.recorder import SCHEDULER, Recorder
from outrider.local.kube.scheduler.scoring import best
from outrider.local.kube.scheduler.template import Template
from outrider.local.kube.scheduler.volumes import VolumeView
from outrider.local.kube.status import StatusError
from outrider.local.kube.store import Change
from outrider.local.kube.subresources import bind
from outrider.local.kube.workqueue import WorkQueue

log = logging.getLogger("outrider.local.kube")

NAME = "default-scheduler"
NO_NODES = "no nodes available to schedule pods"
_FIRST_BACKOFF, _LAST_BACKOFF = 1.0, 10.0
_LEFTOVERS_SECONDS = 300.0  # kube-scheduler looks at the unschedulable again after five minutes
_WATCHED = (
    "nodes",
    "pods",
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "storageclasses.storage.k8s.io",
    "csinodes.storage.k8s.io",
)


@dataclass(slots=True, eq=False)
class Waiting:
    """A pod without a node."""

    pod: Obj
    template: Template
    order: int
    told: bool = False

    @property
    def place(self) -> tuple[int, str, int]:
        """Return its place in the queue."""
        return -self.template.priority, self.pod["metadata"]["creationTimestamp"], self.order


@dataclass(slots=True, eq=False)
class Kind:
    """The pods of one template that failed."""

    template: Template
    members: dict[str, Waiting] = field(default_factory=dict)
    message: str = ""
    failures: int = 0
    ready_at: float = 0.0
    growth: int = -1  # the cluster's growth when one of them was looked at last
    armed: bool = False


class Scheduler:
    """Binds pods of `default-scheduler`."""

    def __init__(self, api: API, *, seed: int = 0) -> None:
        self._api = api
        self._clock = api.clock
        self._call = Call(user=SCHEDULER, manager="kube-scheduler")
        self._dice = random.Random(seed)  # noqa: S311 - ties, no secrets
        self._recorder = Recorder(api, random.Random(seed + 1))  # noqa: S311 - names of events
        self._cluster = Cluster(self._namespace_labels)
        self._volumes = VolumeView(api.store)
        self._filters = Filters(self._cluster, self._volumes)
        self._heap: list[tuple[tuple[int, str, int], str]] = []
        self._active: dict[str, Waiting] = {}
        self._kinds: dict[bytes, Kind] = {}
        self._parked: dict[str, bytes] = {}
        self._nominated: dict[str, list[tuple[str, Placed]]] = {}
        self._nominated_to: dict[str, str] = {}
        self._growth = 0
        self._order = itertools.count()
        self._changes: deque[Change] = deque()
        self._queue: WorkQueue[str] = WorkQueue(api.clock, NAME, self._run)
        for storage in _WATCHED:
            api.store.subscribe(storage, self._heard)
        self._clock.call_later(_LEFTOVERS_SECONDS, self._leftovers)

    def _heard(self, change: Change) -> None:
        self._changes.append(change)
        self._queue.add("changes")

    def _leftovers(self) -> None:
        self._clock.call_later(_LEFTOVERS_SECONDS, self._leftovers)
        self._queue.add("leftovers")

    def _run(self, what: str) -> None:
        """Take in what changed, then place every pod whose turn it is."""
        if what == "leftovers":
            self._grow()
        self._take_in()
        self._wake()
        while self._heap:
            _, uid = heapq.heappop(self._heap)
            waiting = self._active.pop(uid, None)
            if waiting is not None:
                self._place(waiting)
            if self._changes:
                self._take_in()

    # What changed

    def _take_in(self) -> None:
        while self._changes:
            change = self._changes.popleft()
            match change.storage:
                case "pods":
                    self._pod_changed(change)
                case "nodes":
                    self._node_changed(change)
                case "namespaces":
                    self._cluster.namespaces_changed()
                    self._grow()
                case _:
                    self._grow()

    def _node_changed(self, change: Change) -> None:
        node = change.entry.object
        if change.type == "DELETED":
            self._cluster.drop_node(node["metadata"]["name"])
            self._grow(only_pods=True)
            return
        before = change.before.object if change.before else None
        self._cluster.set_node(node)
        if before is None or _offer(before) != _offer(node):
            self._grow_at(node["metadata"]["name"])

    def _pod_changed(self, change: Change) -> None:
        pod = change.entry.object
        uid = uid_of(pod)
        node = pod["spec"].get("nodeName")
        if change.type == "DELETED" or is_finished(pod):
            self._forget(uid)
            had = self._cluster.node_of(uid)
            if had is not None:
                self._cluster.drop_pod(uid)
                self._grow_at(had)
            return
        if node:
            self._forget(uid)
            if not self._assumed(change, node):
                self._cluster.set_pod(pod, node)
                self._grow(only_pods=True)
            elif change.before is None or not change.before.object["spec"].get("nodeName"):
                self._grow(only_pods=True)  # a binding of ours: spread and affinity count it now
            return
        if self._cluster.node_of(uid) is None:
            self._enqueue(pod)

    def _assumed(self, change: Change, node: str) -> bool:
        """Tell whether the pod is counted on *node* already, with nothing changed that is
        counted.
        """
        pod = change.entry.object
        if self._cluster.node_of(uid_of(pod)) != node:
            return False
        before = change.before.object if change.before else pod
        return (
            labels_of(before) == labels_of(pod)
            and is_leaving(before) == is_leaving(pod)
            and before["spec"].get("containers") == pod["spec"].get("containers")
        )

    def _enqueue(self, pod: Obj) -> None:
        uid = uid_of(pod)
        spec = pod["spec"]
        if (
            spec.get("schedulerName", NAME) != NAME
            or spec.get("schedulingGates")
            or is_leaving(pod)
        ):
            self._forget(uid)
            return
        self._nominate(pod)
        template = self._cluster.templates.of(pod)
        known = self._active.get(uid) or self._kind_member(uid)
        if known is not None and known.template is template:
            known.pod = pod  # a nomination is no reason to look at it again
            return
        self._forget(uid)
        self._nominate(pod)
        self._push(Waiting(pod, template, next(self._order)))

    def _kind_member(self, uid: str) -> Waiting | None:
        mark = self._parked.get(uid)
        return self._kinds[mark].members.get(uid) if mark is not None else None

    def _push(self, waiting: Waiting) -> None:
        uid = uid_of(waiting.pod)
        self._active[uid] = waiting
        heapq.heappush(self._heap, (waiting.place, uid))

    def _forget(self, uid: str) -> None:
        self._active.pop(uid, None)
        mark = self._parked.pop(uid, None)
        if mark is not None:
            self._kinds[mark].members.pop(uid, None)
        self._denominate(uid)

    def _nominate(self, pod: Obj) -> None:
        uid, node = uid_of(pod), _nominated_node(pod)
        if self._nominated_to.get(uid, "") == node:
            return
        self._denominate(uid)
        if node:
            self._nominated_to[uid] = node
            placed = Placed(pod, self._cluster.templates.of(pod))
            self._nominated.setdefault(node, []).append((uid, placed))

    def _denominate(self, uid: str) -> None:
        node = self._nominated_to.pop(uid, None)
        if node is not None:
            self._nominated[node] = [one for one in self._nominated[node] if one[0] != uid]

    # Waking those that wait

    def _grow(self, *, only_pods: bool = False) -> None:
        """Note that more may fit now: everywhere, or only for kinds that look at other pods."""
        if not only_pods:
            self._growth += 1
        for kind in self._kinds.values():
            if kind.members and (not only_pods or self._looks_at_pods(kind)):
                if only_pods:
                    kind.growth = -1
                self._arm(kind)

    def _grow_at(self, node: str) -> None:
        """Note that one node offers more: only kinds that it may suit are tried again.

        These are kube-scheduler's queueing hints: without them every heartbeat of a joining node
        would cost each waiting pod an attempt, and its backoff would be at its longest when the
        node is ready at last.
        """
        self._growth += 1
        info = self._cluster.nodes.get(node)
        for kind in self._kinds.values():
            if kind.members and (
                self._looks_at_pods(kind)
                or (info is not None and self._filters.may_suit(info, kind.template))
            ):
                self._arm(kind)

    @staticmethod
    def _looks_at_pods(kind: Kind) -> bool:
        return kind.template.depends_on_pods

    def _arm(self, kind: Kind) -> None:
        if not kind.armed:
            kind.armed = True
            wait = max(kind.ready_at - self._clock.at(), 0.0)
            if wait > 0:
                self._clock.call_later(wait, lambda: self._queue.add("wake"))
            else:
                self._queue.add("wake")

    def _wake(self) -> None:
        """Put the kinds whose backoff is over back into the queue."""
        now = self._clock.at() + 1e-6
        for kind in self._kinds.values():
            if kind.armed and kind.ready_at <= now:
                kind.armed = False
                for uid, waiting in kind.members.items():
                    self._parked.pop(uid, None)
                    self._push(waiting)
                kind.members = {}
        idle = [
            mark
            for mark, kind in self._kinds.items()
            if not kind.members and kind.ready_at < now - _LEFTOVERS_SECONDS
        ]
        for mark in idle:
            del self._kinds[mark]

    # Placing

    def _place(self, waiting: Waiting) -> None:
        template, pod = waiting.template, waiting.pod
        kind = self._kinds.get(template.signature)
        nominated = _nominated_node(pod)
        settled = kind is not None and kind.growth == self._growth and not template.depends_on_pods
        if kind is not None and settled and not nominated:
            self._park(waiting, kind)
            return
        uid = uid_of(pod)
        if nominated:
            info = self._cluster.nodes.get(nominated)
            if info is not None and self._filters.suits(info, template, uid, self._nominated):
                self._bind(waiting, nominated)
                return
        found = self._filters.feasible(template, uid, self._nominated)
        if found.nodes:
            chosen = best(found.nodes, template, self._cluster, self._dice)
            self._bind(waiting, chosen.name)
        else:
            self._fail(waiting, found)

    def _bind(self, waiting: Waiting, node: str) -> None:
        pod = waiting.pod
        uid = uid_of(pod)
        self._forget(uid)
        self._cluster.set_pod(pod, node)
        body = {"metadata": {"uid": uid}, "target": {"kind": "Node", "name": node}}
        try:
            self._choose_for_claims(waiting.template, node)
            bind(self._api, key_of(pod), body, self._call)
        except StatusError as refusal:
            log.info("binding of %s to %s: %s", pod["metadata"]["name"], node, refusal)
            self._cluster.drop_pod(uid)
            found = self._api.store.get("pods", key_of(pod))
            if (
                found is not None
                and uid_of(found.object) == uid
                and not found.object["spec"].get("nodeName")
            ):
                self._park(waiting, self._fail_kind(waiting.template, str(refusal)))
                self._arm(self._kinds[waiting.template.signature])
            return
        kind = self._kinds.get(waiting.template.signature)
        if kind is not None:
            kind.failures = 0
        self._recorder.scheduled(pod, node)

    def _choose_for_claims(self, template: Template, node: str) -> None:
        """Tell the provisioner on which node the pod's unbound claims are to be."""
        for claim in self._volumes.unbound(template):
            resource = self._api.resource("persistentvolumeclaims")

            def choose(current: Obj) -> Obj:
                annotations = {
                    **(current["metadata"].get("annotations") or {}),
                    SELECTED_NODE: node,
                }
                return {**current, "metadata": {**current["metadata"], "annotations": annotations}}

            self._api.patch(resource, key_of(claim), choose, self._call)

    def _fail_kind(self, template: Template, message: str) -> Kind:
        kind = self._kinds.setdefault(template.signature, Kind(template))
        kind.message = message
        kind.growth = self._growth
        kind.failures += 1
        backoff = min(_FIRST_BACKOFF * 2 ** min(kind.failures - 1, 10), _LAST_BACKOFF)
        kind.ready_at = self._clock.at() + backoff
        if kind.armed:
            # A wake planned for the backoff before this one would come too early; but what grew may
            # suit others of the kind that have a nomination: they are looked at after this one.
            kind.armed = False
            self._arm(kind)
        return kind

    def _fail(self, waiting: Waiting, found: Feasible) -> None:
        nominated = self._preempt(waiting, found)
        kind = self._fail_kind(waiting.template, self._message(waiting.template, found))
        waiting.told = False
        if nominated == "":
            self._denominate(uid_of(waiting.pod))
        self._park(waiting, kind, nominated=nominated)

    def _park(self, waiting: Waiting, kind: Kind, *, nominated: str | None = None) -> None:
        uid = uid_of(waiting.pod)
        kind.members[uid] = waiting
        self._parked[uid] = waiting.template.signature
        if not waiting.told:
            waiting.told = True
            self._tell(waiting.pod, kind.message, nominated)

    def _tell(self, pod: Obj, message: str, nominated: str | None) -> None:
        """Write the condition, where it says something new, and record the event.

        A place that was held for the pod is given up with an empty *nominated*, kept with None.
        """
        self._recorder.failed(pod, message)
        have = condition_of(pod, "PodScheduled") or {}
        if (
            have.get("reason") == "Unschedulable"
            and have.get("message") == message
            and nominated in {None, _nominated_node(pod)}
        ):
            return
        condition: Obj = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "reason": "Unschedulable",
            "message": message,
        }
        generation = pod["metadata"].get("generation")
        if generation:
            condition["observedGeneration"] = generation

        def change(current: Obj) -> Obj:
            status = dict(current.get("status") or {})
            status["conditions"] = with_condition(
                status.get("conditions"), condition, self._api.now()
            )
            if nominated:
                status["nominatedNodeName"] = nominated
            elif nominated == "":
                status.pop("nominatedNodeName", None)
            return {**current, "status": status}

        try:
            self._api.patch(self._api.resource("pods"), key_of(pod), change, self._call, "status")
        except StatusError as refusal:
            log.debug("status of %s: %s", pod["metadata"]["name"], refusal)

    def _message(self, template: Template, found: Feasible) -> str:
        total = len(self._cluster.nodes)
        if not total:
            return NO_NODES
        if found.refusal:
            why = found.refusal
        else:
            why = ", ".join(sorted(f"{count} {reason}" for reason, count in found.reasons.items()))
        tail = "preemption: not eligible due to preemptionPolicy=Never."
        if template.may_preempt:
            said: Counter[str] = Counter()
            said["No preemption victims found for incoming pod"] = total - found.hopeless
            said["Preemption is not helpful for scheduling"] = found.hopeless
            listed = ", ".join(
                sorted(f"{count} {reason}" for reason, count in said.items() if count)
            )
            tail = f"preemption: 0/{total} nodes are available: {listed}."
        return f"0/{total} nodes are available: {why}. no new claims to deallocate, {tail}"

    def _preempt(self, waiting: Waiting, found: Feasible) -> str | None:
        """Evict pods of lower priority where that makes room.

        Return the node that is being cleared, "" where nobody's leaving would help (a nomination is
        forgotten then, whoever made it), None where the pod may not preempt (it keeps its own).
        """
        template = waiting.template
        if not template.may_preempt or not self._cluster.nodes or self._is_cleared_for(waiting):
            return None
        if template.priority <= 0 or not found.curable:
            return ""
        checks = self._filters.pod_checks(template)
        chosen = rescue(template, found.curable, checks, self._breaks_budget)
        if chosen is None:
            return ""
        for victim in chosen.victims:
            if not is_leaving(victim):
                self._evict(victim, waiting.pod)
        return chosen.node

    def _is_cleared_for(self, waiting: Waiting) -> bool:
        """Tell whether less important pods are leaving the node that the pod is nominated to."""
        info = self._cluster.nodes.get(_nominated_node(waiting.pod))
        return info is not None and any(
            placed.leaving and placed.template.priority < waiting.template.priority
            for placed in info.pods.values()
        )

    def _evict(self, victim: Obj, by: Obj) -> None:
        options = Deletion(uid=uid_of(victim), how="preemption")
        try:
            self._api.delete(self._api.resource("pods"), key_of(victim), options, self._call)
        except StatusError as refusal:
            log.debug("preemption of %s: %s", victim["metadata"]["name"], refusal)
        else:
            self._recorder.preempted(victim, by)

    def _breaks_budget(self, pod: Obj) -> bool:
        return any(
            (one.get("status") or {}).get("disruptionsAllowed", 0) < 1
            for one in budgets_of(self._api, pod)
        )

    def _namespace_labels(self, name: str) -> Obj:
        found = self._api.store.get("namespaces", ("", name))
        return dict(labels_of(found.object)) if found else {}


def _nominated_node(pod: Obj) -> str:
    return (pod.get("status") or {}).get("nominatedNodeName") or ""


def _offer(node: Obj) -> tuple[object, ...]:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return labels_of(node), spec.get("taints"), spec.get("unschedulable"), status.get("allocatable")
