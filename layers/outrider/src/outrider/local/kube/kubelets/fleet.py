"""All kubelets in one: instances join as Nodes, and pods bound to those Nodes run.

A pod's life here: bound, its images pulled, Running and Ready. A pull takes what such pulls were
measured to take; an image on a seeded volume is there when the volume's blocks have arrived, from
its creation on, or, on one that nobody warms, as it is read; one that was pulled before is there.
A pod whose annotation `outrider.dev/run-seconds` names a time ends by itself after it, with the
exit code of `outrider.dev/exit-code` (0 by default), unless it restarts always; one asked to stop
exits two seconds after SIGTERM or is killed when its grace is shorter. The end of an instance ends
its pods at once; its Node turns Unknown, and the cloud controller deletes it a minute later if
nobody else has. Refuses to know who launched the instance and why.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from outrider.core.seeding import estimate
from outrider.core.seeding.images import UNPACKED_FACTOR
from outrider.local.clock import Clock
from outrider.local.kube.chronicle import Chronicle
from outrider.local.kube.client import Client
from outrider.local.kube.kubelets import node as nodes
from outrider.local.kube.kubelets.facts import Faults, InstanceFacts, Timings
from outrider.local.kube.kubelets.userdata import NodeSettings, UserDataError, parse
from outrider.local.kube.objects import (
    Key,
    Obj,
    annotations_of,
    is_finished,
    is_leaving,
    is_true,
    key_of,
    micro_stamp,
    stamp,
    uid_of,
)
from outrider.local.kube.status import StatusError
from outrider.local.kube.workqueue import WorkQueue
from outrider.local.timeline import Timeline

log = logging.getLogger("outrider.local.kube")

RUN_SECONDS = "outrider.dev/run-seconds"
EXIT_CODE = "outrider.dev/exit-code"
_LEASES = "leases.coordination.k8s.io"
_LEASE_NAMESPACE = "kube-node-lease"
_RENEW_SECONDS = 10.0  # of the wall at most: a fast clock must not drown the store in heartbeats
_SLOWEST_RENEWAL = 300.0
_AGAIN_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Machine:
    """One instance and its kubelet."""

    facts: InstanceFacts
    settings: NodeSettings | None = None
    joined: bool = False
    ready: bool = False
    stopped: bool = False
    images: dict[str, float] = field(default_factory=dict)  # image: when it is there, on the clock
    pods: dict[str, Key] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    ending: set[str] = field(default_factory=set)

    @property
    def node(self) -> str:
        """Return the name of its Node."""
        return self.facts.private_dns


class Kubelets:
    """The kubelets of every instance that the cloud runs."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        timeline: Timeline,
        chronicle: Chronicle,
        *,
        cluster_name: str,
        seed: int = 0,
        timings: Timings | None = None,
    ) -> None:
        self.timings = timings or Timings()
        self.faults = Faults()
        self.endpoint = ""
        self.image_bytes: Mapping[str, int] = {}
        self._client = client
        self._clock = clock
        self._timeline = timeline
        self._chronicle = chronicle
        self._cluster = cluster_name
        self._dice = random.Random(seed)  # noqa: S311 - the order of joining, no secrets
        self._machines: dict[str, Machine] = {}
        self._by_node: dict[str, Machine] = {}
        self._pods: dict[str, Obj] = {}
        self._addresses = itertools.count(1)
        self._lock = threading.RLock()
        self._queue: WorkQueue[str] = WorkQueue(clock, "kubelets", self._sync)
        self._due: deque[Callable[[], None]] = deque()
        self._acting: WorkQueue[str] = WorkQueue(clock, "kubelets act", self._act)
        client.subscribe("pods", self._pod_changed)
        every = _RENEW_SECONDS * max(clock.speed, 1.0)
        self._renewal = min(every, _SLOWEST_RENEWAL)

    # What the cloud says

    def instance_running(self, facts: InstanceFacts) -> None:
        """Begin to join the instance that *facts* describe; a second call for it changes
        nothing.
        """
        with self._lock:
            if facts.instance_id in self._machines:
                return
            machine = self._machines[facts.instance_id] = Machine(facts)
            jitter = self._dice.uniform(0.0, self.timings.join_jitter)
        delay = self.timings.join if self.faults.join_delay is None else self.faults.join_delay
        self._later(delay + jitter, lambda: self._join(machine))

    def instance_stopping(self, instance_id: str) -> None:
        """Stop the kubelet and all containers of an instance that shuts down."""
        with self._lock:
            machine = self._machines.get(instance_id)
            if machine is None or machine.stopped:
                return
            machine.stopped = True
            pods = [self._pods[uid] for uid in machine.pods if uid in self._pods]
        for pod in pods:
            if not is_finished(pod):
                self._chronicle.ended(pod, "stopped with its instance")
        if machine.joined:
            self._later(0.0, lambda: self._lose(machine))

    def instance_gone(self, instance_id: str) -> None:
        """Forget a terminated instance; its Node goes after a while, if nobody removes it
        before.
        """
        self.instance_stopping(instance_id)
        with self._lock:
            machine = self._machines.get(instance_id)
        if machine is not None and machine.joined:
            self._later(self.timings.node_removal, lambda: self._remove_node(machine))

    # Nodes

    def _join(self, machine: Machine) -> None:
        facts = machine.facts
        if machine.stopped or facts.instance_type in self.faults.never_join:
            return
        try:
            machine.settings = self._settings(facts)
        except UserDataError as cause:
            log.warning("%s does not join: %s", facts.instance_id, cause)
            self._timeline.record(
                "instance", id=facts.instance_id, state="join-failed", reason=str(cause)
            )
            return
        if not machine.settings.images_on_instance_store and facts.images_at is not None:
            machine.images = dict.fromkeys(facts.images, facts.images_at)
        body = nodes.node_object(facts, machine.settings, stamp(self._clock.now()))
        if not self._register(machine, body):
            return
        with self._lock:
            machine.joined = True
            self._by_node[machine.node] = machine
            bound = [
                uid for uid, pod in self._pods.items() if pod["spec"]["nodeName"] == machine.node
            ]
        for uid in bound:  # between the Node's creation and now
            self._queue.add(uid)
        self._timeline.record(
            "nodeJoined",
            node=machine.node,
            id=facts.instance_id,
            instanceType=facts.instance_type,
            zone=facts.zone,
        )
        self._later(self.timings.ready, lambda: self._become_ready(machine))
        self._renew(machine)

    def _settings(self, facts: InstanceFacts) -> NodeSettings:
        settings = parse(facts.user_data)
        if settings.cluster != self._cluster:
            raise UserDataError(
                f"the user data is for the cluster {settings.cluster!r}, not {self._cluster!r}"
            )
        if self.endpoint and settings.endpoint.rstrip("/") != self.endpoint.rstrip("/"):
            raise UserDataError(f"the API server {settings.endpoint} cannot be reached")
        return settings

    def _register(self, machine: Machine, body: Obj) -> bool:
        """Create the Node, or take over one of the same instance; return whether that worked."""
        try:
            self._client.create("nodes", body)
        except StatusError as refusal:
            if _passes(refusal):
                raise
            if refusal.reason != "AlreadyExists":
                log.warning("%s does not join: %s", machine.facts.instance_id, refusal)
                reason = str(refusal)
                self._timeline.record(
                    "instance", id=machine.facts.instance_id, state="join-failed", reason=reason
                )
                return False
            have = self._client.get("nodes", ("", machine.node))
            provider = (have or {}).get("spec", {}).get("providerID")
            if provider and provider != body["spec"]["providerID"]:
                log.warning(
                    "%s does not join: its name belongs to %s", machine.facts.instance_id, provider
                )
                return False
            meta = {"metadata": {"labels": body["metadata"]["labels"]}, "spec": body["spec"]}
            self._client.patch("nodes", ("", machine.node), meta)
            self._client.patch("nodes", ("", machine.node), {"status": body["status"]}, "status")
        return True

    def _become_ready(self, machine: Machine) -> None:
        if machine.stopped:
            return
        now = stamp(self._clock.now())
        message = "kubelet is posting ready status"
        condition = nodes.ready_condition("True", "KubeletReady", message, now)
        pressures = [
            {
                "type": kind,
                "status": "False",
                "reason": f"KubeletHas{reason}",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
            for kind, reason in (
                ("MemoryPressure", "SufficientMemory"),
                ("DiskPressure", "NoDiskPressure"),
                ("PIDPressure", "SufficientPID"),
            )
        ]
        self._patch_node(machine, {"status": {"conditions": [*pressures, condition]}}, "status")
        with self._lock:
            machine.ready = True
            waiting = list(machine.pods)
        for uid in waiting:
            self._queue.add(uid)
        settings = machine.settings
        if settings is not None and nodes.devices(machine.facts, settings):
            self._later(self.timings.devices, lambda: self._register_devices(machine))

    def _register_devices(self, machine: Machine) -> None:
        settings = machine.settings
        if machine.stopped or settings is None:
            return
        if machine.facts.instance_type in self.faults.never_initialize:
            return
        found = nodes.devices(machine.facts, settings)
        self._patch_node(machine, {"status": {"capacity": found, "allocatable": found}}, "status")

    def _renew(self, machine: Machine) -> None:
        """Create or renew the node's Lease, and come back for the next time."""
        if machine.stopped:
            return
        key = _LEASE_NAMESPACE, machine.node
        spec = {
            "holderIdentity": machine.node,
            "leaseDurationSeconds": 40,
            "renewTime": micro_stamp(self._clock.now()),
        }
        try:
            if self._client.get(_LEASES, key) is None:
                meta = {"name": machine.node, "namespace": _LEASE_NAMESPACE}
                self._client.create(_LEASES, {"metadata": meta, "spec": spec})
            else:
                self._client.patch(_LEASES, key, {"spec": spec})
        except StatusError as refusal:
            log.debug("lease of %s: %s", machine.node, refusal)
        self._later(self._renewal, lambda: self._renew(machine))

    def _lose(self, machine: Machine) -> None:
        now = stamp(self._clock.now())
        message = "Kubelet stopped posting node status."
        condition = nodes.ready_condition("Unknown", "NodeStatusUnknown", message, now)
        self._patch_node(machine, {"status": {"conditions": [condition]}}, "status")
        not_ready = {"type": "Ready", "status": "False", "lastTransitionTime": now}
        for uid, key in list(machine.pods.items()):
            pod = self._pods.get(uid)
            if pod is not None and is_true(pod, "Ready"):
                self._patch_pod(key, {"status": {"conditions": [not_ready]}})

    def _remove_node(self, machine: Machine) -> None:
        have = self._client.get("nodes", ("", machine.node))
        if have is not None and have["spec"].get("providerID", "").endswith(
            machine.facts.instance_id
        ):
            self._client.delete("nodes", ("", machine.node), uid=uid_of(have))
        self._client.delete(_LEASES, (_LEASE_NAMESPACE, machine.node))
        with self._lock:
            self._machines.pop(machine.facts.instance_id, None)
            if self._by_node.get(machine.node) is machine:
                del self._by_node[machine.node]

    def _patch_node(self, machine: Machine, body: Obj, subresource: str = "") -> None:
        try:
            self._client.patch("nodes", ("", machine.node), body, subresource)
        except StatusError as refusal:
            if _passes(refusal):
                raise
            log.debug("node %s: %s", machine.node, refusal)

    # Pods

    def _pod_changed(self, kind: str, pod: Obj, _before: Obj | None) -> None:
        uid, node = uid_of(pod), pod["spec"].get("nodeName")
        with self._lock:
            if kind == "DELETED":
                self._pods.pop(uid, None)
                machine = self._by_node.get(node or "")
                if machine is not None:
                    machine.pods.pop(uid, None)
                    machine.begun.discard(uid)
                    machine.ending.discard(uid)
                return
            if not node:
                return
            self._pods[uid] = pod
            machine = self._by_node.get(node)
            if machine is None:
                return
            settled = uid in machine.begun and not is_leaving(pod)
            machine.pods[uid] = key_of(pod)
        if not settled:
            self._queue.add(uid)

    def _sync(self, uid: str) -> None:
        """Take the next step of a pod's life."""
        with self._lock:
            pod = self._pods.get(uid)
            machine = self._by_node.get(pod["spec"]["nodeName"]) if pod else None
            if pod is None or machine is None or machine.stopped:
                return
            machine.pods[uid] = key_of(pod)
        if is_leaving(pod):
            self._end(machine, pod)
        elif machine.ready and uid not in machine.begun and not is_finished(pod):
            self._pull(machine, pod)
            machine.begun.add(uid)

    def _pull(self, machine: Machine, pod: Obj) -> None:
        now = self._clock.at()
        there = now
        new = []
        for container in (pod["spec"].get("initContainers") or []) + pod["spec"]["containers"]:
            image = container["image"]
            if image not in machine.images:
                machine.images[image] = now + self._wait_for(machine, image)
                new.append(image)
            there = max(there, machine.images[image])
        if new:
            self._later(there - now, lambda: self._show_images(machine))
        uid = uid_of(pod)
        self._later(there - now + self.timings.start, lambda: self._run(machine, uid))

    def _wait_for(self, machine: Machine, image: str) -> float:
        """Return how long an image takes that is not there: a pull, or reads of a cold volume."""
        told = self._told(image)
        size = self.timings.image_bytes if told is None else told
        on_disk = int(size * UNPACKED_FACTOR)
        settings = machine.settings
        seen = settings is None or not settings.images_on_instance_store
        if seen and image in machine.facts.images:
            return estimate.seeded_seconds(on_disk, estimate.WarmUp.NONE)
        if told is None:
            return size / self.timings.pull_bytes_per_second
        return estimate.pull_seconds(size, on_disk)

    def _size(self, image: str) -> int:
        """Return an image's bytes: as told for it or its repository, else the usual."""
        told = self._told(image)
        return self.timings.image_bytes if told is None else told

    def _told(self, image: str) -> int | None:
        repository = image.partition("@")[0].rpartition(":")[0] or image
        return self.image_bytes.get(image, self.image_bytes.get(repository))

    def _show_images(self, machine: Machine) -> None:
        if machine.stopped:
            return
        now = self._clock.at() + 1e-6
        listed = [
            {"names": [image], "sizeBytes": self._size(image)}
            for image, at in sorted(machine.images.items())
            if at <= now
        ]
        self._patch_node(machine, {"status": {"images": listed}}, "status")

    def _run(self, machine: Machine, uid: str) -> None:
        pod = self._pods.get(uid)
        if pod is None or machine.stopped or is_leaving(pod):
            return
        now = stamp(self._clock.now())
        spec = pod["spec"]
        address = machine.facts.private_ip if spec.get("hostNetwork") else self._address()
        kinds = ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
        status: Obj = {
            "phase": "Running",
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds
            ],
            "hostIP": machine.facts.private_ip,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": now,
            "containerStatuses": [_running(one, now) for one in spec["containers"]],
        }
        first = spec.get("initContainers")
        if first:
            status["initContainerStatuses"] = [_initialised(one, now) for one in first]
        if self._patch_pod(key_of(pod), {"status": status}):
            self._plan_end(machine, pod)

    def _address(self) -> str:
        number = next(self._addresses)
        return f"100.{64 + (number >> 16) % 64}.{(number >> 8) % 256}.{number % 256}"

    def _plan_end(self, machine: Machine, pod: Obj) -> None:
        seconds = annotations_of(pod).get(RUN_SECONDS)
        if seconds is None or pod["spec"].get("restartPolicy") == "Always":
            return
        try:
            wait = float(seconds)
        except ValueError:
            log.warning("%s: %s is no number: %r", pod["metadata"]["name"], RUN_SECONDS, seconds)
            return
        uid = uid_of(pod)
        self._later(wait, lambda: self._finish(machine, uid))

    def _finish(self, machine: Machine, uid: str) -> None:
        pod = self._pods.get(uid)
        if pod is None or machine.stopped or is_leaving(pod):
            return
        now = stamp(self._clock.now())
        code = annotations_of(pod).get(EXIT_CODE, "0")
        exit_code = int(code) if code.isdigit() else 1
        kinds = ("ContainersReady", "Ready")
        reason = "PodCompleted" if exit_code == 0 else "PodFailed"
        status: Obj = {
            "phase": "Succeeded" if exit_code == 0 else "Failed",
            "conditions": [
                {"type": kind, "status": "False", "reason": reason, "lastTransitionTime": now}
                for kind in kinds
            ],
            "containerStatuses": [
                {
                    **_running(one, now),
                    "ready": False,
                    "started": False,
                    "state": {
                        "terminated": {
                            "exitCode": exit_code,
                            "reason": "Completed" if exit_code == 0 else "Error",
                            "finishedAt": now,
                        }
                    },
                }
                for one in pod["spec"]["containers"]
            ],
        }
        self._patch_pod(key_of(pod), {"status": status})

    def _end(self, machine: Machine, pod: Obj) -> None:
        """Let a pod that was asked to stop exit, or kill it when its grace is over."""
        uid = uid_of(pod)
        grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        mark = f"{uid}/{grace}"
        if mark in machine.ending:
            return
        machine.ending.add(mark)
        if grace >= self.timings.stop:
            wait, how = self.timings.stop, "exited after SIGTERM"
        else:
            wait, how = grace, "killed"
        if uid not in machine.begun or is_finished(pod):
            wait, how = 0.0, "never ran" if uid not in machine.begun else "finished before"
        self._later(wait, lambda: self._gone(machine, uid, how))

    def _gone(self, machine: Machine, uid: str, how: str) -> None:
        pod = self._pods.get(uid)
        if pod is None or machine.stopped:
            return
        self._chronicle.ended(pod, how)
        self._client.delete("pods", key_of(pod), grace=0, uid=uid)

    def _patch_pod(self, key: Key, body: Obj) -> bool:
        try:
            self._client.patch("pods", key, body, "status")
        except StatusError as refusal:
            if _passes(refusal):
                raise
            log.debug("pod %s: %s", key, refusal)
            return False
        return True

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run *action*, which may wait for the API server, after *seconds* of the clock."""

        def due() -> None:
            self._due.append(action)
            self._acting.add("due")

        self._clock.call_later(seconds, due)

    def _act(self, _key: str) -> None:
        """Do what is due, in order; one worker for all kubelets, so that a burst is no burst of
        threads.
        """
        while self._due:
            action = self._due.popleft()
            try:
                action()
            except StatusError as refusal:
                if _passes(refusal):
                    log.info("a kubelet tries again: %s", refusal)
                    self._later(_AGAIN_SECONDS, action)
                else:
                    log.warning("a kubelet: %s", refusal)
            except Exception:
                log.exception("a kubelet failed")


def _passes(refusal: StatusError) -> bool:
    """Return whether the API server may say yes to the same later; one that has just started
    answers 403 until it has read its roles.
    """
    return refusal.reason == "Conflict" or refusal.code in {403, 429} or refusal.code >= 500


def _running(container: Obj, now: str) -> Obj:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": container["image"],
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": now}},
    }


def _initialised(container: Obj, now: str) -> Obj:
    if container.get("restartPolicy") == "Always":
        return _running(container, now)
    terminated = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
    return {**_running(container, now), "started": False, "state": {"terminated": terminated}}
