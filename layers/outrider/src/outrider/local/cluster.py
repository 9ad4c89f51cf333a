"""The Kubernetes side of the cloud: the embedded API (or one that exists), its kubelets, their
machines.

Turns what EC2 knows of a running instance into what a kubelet needs to know, and tells the kubelets
when machines come and go. Refuses to know what runs on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from outrider.local.clock import Clock
from outrider.local.instances import Instances
from outrider.local.timeline import Timeline

Authenticate = Callable[[str], tuple[str, list[str]] | None]


class EmbeddedCluster:
    """The embedded Kubernetes API, with kubelets for the instances of the account."""

    def __init__(
        self,
        clock: Clock,
        timeline: Timeline,
        *,
        authenticate: Authenticate,
        name: str,
        seed: int,
        instances: Instances,
        kubeconfig: Path | None = None,
    ) -> None:
        from outrider.local.kube import KubeAPI

        self.name = name
        self._instances = instances
        self._kubeconfig = kubeconfig
        self.api = KubeAPI(
            clock, timeline, authenticate=_users(authenticate), cluster_name=name, seed=seed
        )
        self.url = ""
        self.ca_pem = ""

    def start(self) -> None:
        """Serve the API and listen for machines."""
        self.url = self.api.start(0)
        self.ca_pem = self.api.ca_pem
        self._instances.on_state.append(self._instance)

    def stop(self) -> None:
        """Stop serving."""
        self.api.stop()

    def set_faults(self, wanted: Mapping[str, Any]) -> None:
        """Take the faults of nodes that join late, never, or without their devices."""
        keys = ("joinDelaySeconds", "neverJoin", "neverInitialize")
        self.api.faults = {key: wanted[key] for key in keys if key in wanted}

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Create or update objects as an administrator."""
        for manifest in objects:
            self.api.apply(dict(manifest))

    def _instance(self, instance: Any, state: str) -> None:
        """Tell the kubelets of a machine's state; seed builders run no kubelet."""
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        if f"kubernetes.io/cluster/{self.name}" not in tags or "outrider.dev/seed" in tags:
            return
        if state == "running":
            self.api.kubelets.instance_running(self._facts(instance))
        elif state in ("shutting-down", "stopping"):
            self.api.kubelets.instance_stopping(instance.id)
        elif state in ("terminated", "stopped"):
            self.api.kubelets.instance_gone(instance.id)
