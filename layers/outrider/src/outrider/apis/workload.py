"""What makes pods: DaemonSets, and the owners whose templates say more than their pods do.

Slim records. A DaemonSet's template is a pod without a name; of Deployments, ReplicaSets,
StatefulSets, Jobs and JobSets only identity, size and the template's metadata are kept. Refuses to
create pods: what is not a Pod is not planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from outrider.apis import meta
from outrider.apis import pod as pods
from outrider.apis.fields import Json, integer, labels, mapping, objects, string
from outrider.apis.meta import Owner
from outrider.apis.pod import Pod
from outrider.errors import InvalidManifest


@dataclass(frozen=True, slots=True)
class DaemonSet:
    """One DaemonSet: the pod it puts on every node that it may run on."""

    namespace: str
    name: str
    template: Pod
    uid: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)  # plain values, all containers

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Workload:
    """An owner of pods: what planning may read from it, such as a gang's size on its template."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()
    replicas: int = 1
    parallelism: int = 1
    completions: int | None = None
    template_labels: Mapping[str, str] = field(default_factory=dict)
    template_annotations: Mapping[str, str] = field(default_factory=dict)
    deleted: datetime | None = None
    template: Json = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def wanted(self) -> int:
        """Return how many pods are to run at once."""
        return self.parallelism if self.kind == "Job" else self.replicas

    def pod(self) -> Pod | None:
        """Return the pod of the template, without a name; None where there is no valid one."""
        spec = self.template.get("spec")
        if not isinstance(spec, Mapping) or not spec.get("containers"):
            return None
        metadata = {
            **mapping(self.template, "metadata", "template"),
            "namespace": self.namespace,
            "name": "",
        }
        try:
            return pods.template(metadata, spec)
        except InvalidManifest:
            return None


def parse_daemon_set(document: Json) -> DaemonSet:
    """Return the DaemonSet in *document*."""
    identity = meta.parse(document, namespaced=True)
    template = mapping(mapping(document, "spec"), "template", "spec")
    metadata = {**mapping(template, "metadata"), "namespace": identity.namespace, "name": ""}
    spec = mapping(template, "spec")
    if not spec.get("containers"):
        raise InvalidManifest("must have a container", path="spec.template.spec.containers")
    try:
        pod = pods.template(metadata, spec)
    except InvalidManifest as error:
        raise InvalidManifest(error.problem, path=f"spec.template.{error.path}") from None
    return DaemonSet(identity.namespace, identity.name, pod, identity.uid, _environment(spec))


def _environment(spec: Json) -> Mapping[str, str]:
    return {
        string(variable, "name"): string(variable, "value")
        for container in objects(spec, "containers", "spec.template.spec")
        for variable in objects(container, "env", "spec.template.spec.containers[]")
        if "value" in variable
    }


def parse_workload(document: Json) -> Workload:
    """Return the Deployment, ReplicaSet, StatefulSet, Job or JobSet in *document*."""
    identity = meta.parse(document, namespaced=True)
    spec = mapping(document, "spec")
    whole = mapping(spec, "template", "spec")
    template = mapping(whole, "metadata", "spec.template")
    completions = spec.get("completions")
    return Workload(
        kind=string(document, "kind"),
        namespace=identity.namespace,
        name=identity.name,
        uid=identity.uid,
        labels=identity.labels,
        annotations=identity.annotations,
        owners=identity.owner_references,
        replicas=integer(spec, "replicas", "spec", default=1),
        parallelism=integer(spec, "parallelism", "spec", default=1),
        completions=None if completions is None else integer(spec, "completions", "spec"),
        template_labels=labels(template, "labels", "spec.template.metadata"),
        template_annotations=labels(template, "annotations", "spec.template.metadata"),
        deleted=identity.deletion_timestamp,
        template=whole,
    )


def parse_pod_template(document: Json) -> Workload:
    """Return the PodTemplate in *document*: what makes no pods, but says what one would be."""
    identity = meta.parse(document, namespaced=True)
    return Workload(
        kind="PodTemplate",
        namespace=identity.namespace,
        name=identity.name,
        uid=identity.uid,
        labels=identity.labels,
        annotations=identity.annotations,
        replicas=0,
        template=mapping(document, "template"),
    )
