"""The few writes that outrider makes in a cluster, each of them repeatable.

Creating what exists, deleting what is gone and setting what is set already are all fine: a
function may be killed between any two of them and run again. Lists that others write to as well
(taints, finalizers) are changed by read, change and a merge patch that carries the
resourceVersion, so that a concurrent writer's change is never lost. Refuses to decide anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from outrider.adapters.kube.client import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Client
from outrider.apis import labels
from outrider.apis.node import Node
from outrider.errors import ClusterError, Conflict, Gone

NODECLAIMS = "/apis/karpenter.sh/v1/nodeclaims"
PLURALS = {
    "NodePool": "/apis/karpenter.sh/v1/nodepools",
    "NodeClaim": NODECLAIMS,
    "EC2NodeClass": "/apis/karpenter.k8s.aws/v1/ec2nodeclasses",
}
NODES = "/api/v1/nodes"
TRIES = 6
INVALID = 422
EVENT_TEXT = 1024  # the API server refuses a longer message
REMEMBERED = 4096
UNSAID_FOR = timedelta(minutes=2)  # as long as Karpenter's recorder keeps from repeating itself

Json = Mapping[str, Any]


class Writer:
    """Writes to one cluster over *client*, stamped by the clock *now*."""

    def __init__(self, client: Client, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        # what this sandbox has said, how often and when last
        self._events: dict[str, tuple[int, datetime]] = {}

    def create_nodeclaim(self, manifest: Json) -> None:
        """Create a NodeClaim; one of that name is left as it is."""
        try:
            self._client.send("POST", NODECLAIMS, dict(manifest))
        except Conflict:
            return

    def create_nodeclaims(self, manifests: Sequence[Json]) -> None:
        """Create NodeClaims; those whose names are taken are left as they are."""
        self._client.together([partial(self.create_nodeclaim, one) for one in manifests])

    def tell_nodeclaims(self, told: Mapping[str, tuple[Json, Json]]) -> None:
        """Merge a patch of metadata, then one of status, into each NodeClaim of *told*."""

        def tell(name: str, patch: Json, status: Json) -> None:
            self.patch_nodeclaim(name, patch)
            self.patch_nodeclaim_status(name, status)

        self._client.together([partial(tell, name, *both) for name, both in told.items()])

    def patch_nodeclaim(self, name: str, patch: Json) -> None:
        """Merge *patch* into a NodeClaim's metadata or spec."""
        self._merge(f"{NODECLAIMS}/{name}", patch)

    def patch_nodeclaim_status(self, name: str, patch: Json) -> None:
        """Merge *patch* into a NodeClaim's status."""
        self._merge(f"{NODECLAIMS}/{name}/status", {"status": dict(patch)})

    def delete_nodeclaim(self, name: str) -> None:
        """Delete a NodeClaim; its finalizer keeps it until `release_nodeclaim`."""
        self._delete(f"{NODECLAIMS}/{name}")

    def release_nodeclaim(self, name: str) -> None:
        """Take our finalizer off a NodeClaim; one that is gone is fine."""
        self._release(f"{NODECLAIMS}/{name}")

    def patch_node(self, name: str, patch: Json) -> None:
        """Strategic-merge *patch* into a Node."""
        self._client.send("PATCH", f"{NODES}/{name}", dict(patch), content_type=STRATEGIC_PATCH)

    def taint(self, name: str, key: str, effect: str, *, present: bool, value: str = "") -> None:
        """Put a taint on a Node or take it off, keeping all others, against concurrent writers."""
        wanted = {"key": key, "effect": effect, **({"value": value} if value else {})}

        def change(node: dict[str, Any]) -> dict[str, Any] | None:
            taints = (node.get("spec") or {}).get("taints") or []
            others = [
                taint
                for taint in taints
                if (taint.get("key"), taint.get("effect")) != (key, effect)
            ]
            after = [*others, wanted] if present else others
            had = len(others) != len(taints)
            return None if had == present else {"spec": {"taints": after}}

        self._change(f"{NODES}/{name}", change)

    def untaint_all(self, nodes: Sequence[Node], key: str, effect: str) -> Mapping[str, str]:
        """Take a taint off each of *nodes*; return why not, for those that failed."""
        known = {node.name: node for node in nodes}
        return self._each(known, lambda name: self._untaint(known[name], key, effect))

    def _untaint(self, node: Node, key: str, effect: str) -> None:
        """Take a taint off where *node* showed it, in one request; read first where it moved.

        A NodePool's nodes are to open at once: every round trip between the first and the last is
        time in which kube-scheduler forgets nominations (docs/e2e.md).
        """
        carried = [(taint.key, taint.effect) for taint in node.taints]
        if (key, effect) in carried:
            at = f"/spec/taints/{carried.index((key, effect))}"
            patch = [
                {"op": "test", "path": f"{at}/key", "value": key},
                {"op": "test", "path": f"{at}/effect", "value": effect},
                {"op": "remove", "path": at},
            ]
            try:
                self._client.send("PATCH", f"{NODES}/{node.name}", patch, content_type=JSON_PATCH)
            except ClusterError as refusal:
                if not isinstance(refusal, Conflict) and refusal.status != INVALID:
                    raise  # otherwise the list is another by now
            else:
                return
        self.taint(node.name, key, effect, present=False)

    def delete_node(self, name: str) -> None:
        """Delete a Node and take our finalizer off it; one that is gone is fine."""
        self._delete(f"{NODES}/{name}")
        self._release(f"{NODES}/{name}")

    def delete_pod(self, pod: str, uid: str, grace_seconds: int) -> None:
        """Delete a pod outright with *grace_seconds* (1 at least)."""
        namespace, _, name = pod.partition("/")
        options = {
            "gracePeriodSeconds": max(grace_seconds, 1),
            **({"preconditions": {"uid": uid}} if uid else {}),
        }
        self._delete(f"/api/v1/namespaces/{namespace}/pods/{name}", options)

    def nominate_all(self, homes: Mapping[str, str]) -> Mapping[str, str]:
        """Nominate each pod of *homes* to its node; return why not, for those that failed."""
        return self._each(homes, lambda pod: self.nominate(pod, homes[pod]))

    def nominate(self, pod: str, node: str | None) -> None:
        """Set or clear a pod's status.nominatedNodeName; one that is gone or bound is fine."""
        namespace, _, name = pod.partition("/")
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
        try:
            self._merge(path, {"status": {"nominatedNodeName": node}})
        except Gone:
            return
        except ClusterError as refusal:
            if refusal.status != INVALID:  # bound since we looked: a promise is refused then
                raise

    def patch_status(self, kind: str, name: str, patch: Json) -> None:
        """Merge *patch* into the status of a NodePool or an EC2NodeClass."""
        self._merge(f"{PLURALS[kind]}/{name}/status", {"status": dict(patch)})

    def event(self, involved: Json, reason: str, message: str, *, warning: bool = False) -> None:
        """Write a Kubernetes Event about *involved* (apiVersion, kind, name, namespace, uid).

        The same words about the same object are one Event; its count grows, once in `UNSAID_FOR`,
        with what this sandbox says.
        """
        namespace = str(involved.get("namespace") or "default")
        said = f"{involved.get('uid')}/{involved.get('kind')}/{reason}/{message}"
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        name = f"{str(involved.get('name'))[:200]}.{digest}"
        at = self._now()
        count, last = self._events.get(digest, (0, at))
        if count and at - last < UNSAID_FOR:
            return
        now = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"/api/v1/namespaces/{namespace}/events"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": dict(involved),
            "reason": reason,
            "message": message[:EVENT_TEXT],
            "type": "Warning" if warning else "Normal",
            "source": {"component": "outrider"},
            "reportingComponent": "outrider",
            "reportingInstance": "outrider",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        if not count:
            try:
                self._client.send("POST", path, event)
            except Conflict:  # said by another sandbox, or by this function before it was replaced
                count = 1
            except Gone:  # the namespace is being deleted
                return
            else:
                self._remember(digest, 1, at)
                return
        try:
            self._merge(f"{path}/{name}", {"count": count + 1, "lastTimestamp": now})
        except Gone:  # it outlived its hour
            self._events.pop(digest, None)
        else:
            self._remember(digest, count + 1, at)

    def _remember(self, digest: str, count: int, at: datetime) -> None:
        """Remember how often *digest* was said, and when last."""
        if len(self._events) > REMEMBERED:
            self._events.clear()
        self._events[digest] = count, at

    def _each(self, names: Iterable[str], write: Callable[[str], None]) -> Mapping[str, str]:
        """Do *write* for all *names* together; return why not, for those that failed."""
        failed: dict[str, str] = {}

        def attempt(name: str) -> None:
            try:
                write(name)
            except ClusterError as error:
                failed[name] = str(error)

        self._client.together([partial(attempt, name) for name in names])
        return failed

    def _merge(self, path: str, patch: Json) -> None:
        self._client.send("PATCH", path, dict(patch), content_type=MERGE_PATCH)

    def _delete(self, path: str, options: Json | None = None) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options} if options else None
        try:
            self._client.send("DELETE", path, body)
        except (Gone, Conflict):  # a Conflict: the name is another object's by now
            return

    def _release(self, path: str) -> None:
        def change(found: dict[str, Any]) -> dict[str, Any] | None:
            finalizers = found["metadata"].get("finalizers") or []
            others = [name for name in finalizers if name != labels.TERMINATION_FINALIZER]
            if len(others) == len(finalizers):
                return None
            return {"metadata": {"finalizers": others or None}}

        try:
            self._change(path, change)
        except Gone:
            return

    def _change(self, path: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        """Read, *change* and write back what is at *path* until nobody wrote in between."""
        for attempt in range(TRIES):
            found = self._client.get(path)
            patch = change(found)
            if patch is None:
                return
            metadata = {
                **(patch.get("metadata") or {}),
                "resourceVersion": found["metadata"].get("resourceVersion"),
            }
            try:
                self._merge(path, {**patch, "metadata": metadata})
            except Conflict:
                if attempt + 1 == TRIES:
                    raise
            else:
                return
