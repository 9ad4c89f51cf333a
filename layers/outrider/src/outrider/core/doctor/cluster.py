"""What of the cluster keeps pods from being seen, nodes from being used, or two from one another.

Definitions and their versions, access and the webhook as `outrider manifests` prints them, the
CNI's settings, device plugins, whoever else provisions or drains, and what NodePools and node
classes say of themselves. Compared with what should be there; refuses to repair anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from outrider.apis.nodepool import NodePool
from outrider.apis.workload import DaemonSet
from outrider.core.catalog.family import Family, family_of
from outrider.core.catalog.instancetype import InstanceType
from outrider.core.clusterstate import ClusterState
from outrider.core.doctor.capacity import types_of
from outrider.core.doctor.facts import Definition, Facts, Json
from outrider.core.doctor.finding import Finding, Severity
from outrider.core.launch import readiness
from outrider.core.scheduling.daemons import daemons

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

NEEDED = {
    "nodepools.karpenter.sh": "v1",
    "nodeclaims.karpenter.sh": "v1",
    "ec2nodeclasses.karpenter.k8s.aws": "v1",
}
CNI = "kube-system/aws-node"
NOWHERE = ".invalid"
# What a device plugin's DaemonSet is called, or its image, by the maker of the devices.
PLUGINS: Mapping[str, tuple[str, ...]] = {
    "nvidia": ("nvidia-device-plugin", "k8s-device-plugin", "nvidia-driver-daemonset"),
    "neuron": ("neuron-device-plugin",),
    "amd": ("amdgpu-device-plugin", "rocm/k8s-device-plugin"),
}
DRIVERS = {"nvidia": "gpu.nvidia.com", "neuron": "neuron.aws.com", "amd": "gpu.amd.com"}
PLUGIN_FIX = {
    "nvidia": "kubectl apply -f the manifest of NVIDIA/k8s-device-plugin, or install its operator",
    "neuron": "install the Neuron Helm chart (aws-neuron/neuron-helm-charts)",
    "amd": "kubectl apply -f the manifest of ROCm/k8s-device-plugin",
}


def judge(facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong in the cluster."""
    if facts.unreachable:
        yield Finding(
            ERROR,
            "ApiUnreachable",
            f"cluster {facts.cluster}",
            f"the Kubernetes API does not answer: {facts.unreachable}",
            "check --kubeconfig, the endpoint's access and your own access entry",
        )
    if facts.definitions is not None:
        yield from _definitions(facts.definitions, facts.deployments)
    if facts.access is not None:
        yield from _access(facts.wanted_access, facts.access)
    if facts.webhook_known:
        yield from _webhook(facts)
    yield from _neighbours(facts)
    if facts.state is not None:
        yield from _network(facts.state)
        yield from _devices(facts, facts.state)
        yield from _objects(facts.state)


def complete(found: Iterable[Definition]) -> bool:
    """Return whether every kind that planning reads is served among *found*."""
    served = {(one.name, version) for one in found for version in one.served}
    return set(NEEDED.items()) <= served


# --- what was installed ---------------------------------------------------------------------------


def _definitions(
    found: Iterable[Definition], deployments: Mapping[str, int] | None
) -> Iterator[Finding]:
    known = {one.name: one for one in found}
    install = "outrider manifests crds --cluster NAME | kubectl create -f -"
    for name, version in sorted(NEEDED.items()):
        one = known.get(name)
        if one is None:
            yield Finding(ERROR, "DefinitionMissing", name, "it is not installed", install)
        elif version not in one.served:
            yield Finding(
                ERROR,
                "DefinitionVersion",
                name,
                f"it serves {', '.join(one.served) or 'nothing'}, not {version}",
                "upgrade Karpenter's CRDs to v1 (its upgrade guide), then run this again",
            )
        elif not one.established:
            yield Finding(
                ERROR,
                "DefinitionVersion",
                name,
                "the API server does not serve it yet",
                f"kubectl describe crd {name}",
            )
        elif one.converter and _dead(one.converter, deployments):
            yield Finding(
                ERROR,
                "DefinitionConversion",
                name,
                f"it is converted by {one.converter}, which runs no more: reads fail",
                f"kubectl patch crd {name} --type merge -p"
                ' \'{"spec":{"conversion":{"strategy":"None","webhook":null}}}\'',
            )


def _dead(service: str, deployments: Mapping[str, int] | None) -> bool:
    return deployments is not None and not deployments.get(service)


def _access(wanted: Iterable[Json], found: Iterable[Json]) -> Iterator[Finding]:
    known = {(one["kind"], one["metadata"]["name"]): one for one in found}
    for one in wanted:
        kind, name = one["kind"], one["metadata"]["name"]
        there = known.get((kind, name))
        lacking = "it is not there" if there is None else _differs(one, there)
        if lacking:
            yield Finding(
                ERROR,
                "AccessDiffers",
                f"{kind} {name}",
                lacking,
                "outrider manifests rbac --cluster NAME | kubectl apply -f -",
            )


def _differs(wanted: Json, there: Json) -> str:
    """Return what *there* lacks of *wanted*; more than is wanted is somebody's own wish."""
    if "rules" in wanted:
        has = {grant for rule in there.get("rules") or () for grant in _grants(rule)}
        needs = {grant for rule in wanted["rules"] for grant in _grants(rule)}
        lacking = sorted(needs - has)
        if not lacking:
            return ""
        group, resource, verb, _ = lacking[0]
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        return f"it does not allow to {verb} {resource}{f'.{group}' if group else ''}{more}"
    subjects = {one.get("name") for one in there.get("subjects") or ()}
    missing = sorted(one["name"] for one in wanted["subjects"] if one["name"] not in subjects)
    return f"it does not bind {', '.join(missing)}" if missing else ""


def _grants(rule: Json) -> Iterator[tuple[str, str, str, str]]:
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in rule.get("verbs") or ():
                for name in rule.get("resourceNames") or ("",):
                    yield group, resource, verb, name


def _webhook(facts: Facts) -> Iterator[Finding]:
    install = (
        "outrider manifests webhook --cluster NAME --webhook-url WebhookUrl/SECRET"
        " | kubectl apply -f -"
    )
    about = "ValidatingWebhookConfiguration outrider"
    hooks = (facts.webhook or {}).get("webhooks") or ()
    if not hooks:
        problem = "it is not there: pods wait for the minute tick instead of a second"
        yield Finding(WARNING, "WebhookMissing", about, problem, install)
        return
    url = str(hooks[0].get("clientConfig", {}).get("url", ""))
    meant = facts.stack.outputs.get("WebhookUrl", "") if facts.stack else ""
    if (urlsplit(url).hostname or "").endswith(NOWHERE):
        problem = "it points at the placeholder, which leads nowhere"
        yield Finding(WARNING, "WebhookElsewhere", about, problem, install)
    elif meant and not url.startswith(f"{meant}/"):
        where = urlsplit(url).hostname or "a Service"
        problem = f"it points at {where}, not at this stack's WebhookUrl"
        yield Finding(WARNING, "WebhookElsewhere", about, problem, install)
    elif hooks[0].get("failurePolicy") != "Ignore":
        problem = "its failurePolicy is not Ignore: an outage here would refuse Events"
        yield Finding(ERROR, "WebhookFails", about, problem, install)


# --- who else is there ----------------------------------------------------------------------------


def _neighbours(facts: Facts) -> Iterator[Finding]:
    if facts.karpenter_live:
        yield Finding(
            WARNING,
            "KarpenterLive",
            "Karpenter",
            "its Lease is fresh: outrider only observes beside it",
            "kubectl scale deployment karpenter --replicas 0, once you want outrider to act",
        )
    for name, replicas in sorted((facts.deployments or {}).items()):
        if replicas and "cluster-autoscaler" in name.partition("/")[2]:
            yield Finding(
                WARNING,
                "AutoscalerLive",
                f"Deployment {name}",
                "the Cluster Autoscaler launches nodes for the same pods",
                f"scale it to 0, or confine it to node groups whose pods are not ours: {name}",
            )
    for daemon in facts.state.daemonsets if facts.state else ():
        if "aws-node-termination-handler" in daemon.name:
            yield Finding(
                WARNING,
                "TerminationHandler",
                f"DaemonSet {daemon.key}",
                "it drains interrupted nodes as well, without waiting for a replacement",
                "keep it off our nodes: a nodeAffinity that karpenter.sh/nodepool does not exist",
            )


# --- what nodes need ------------------------------------------------------------------------------


def _network(state: ClusterState) -> Iterator[Finding]:
    cni = next((one for one in state.daemonsets if one.key == CNI), None)
    if cni is None:
        yield Finding(
            WARNING,
            "CniMissing",
            f"DaemonSet {CNI}",
            "there is no aws-node: how many pods a node holds is computed from its interfaces",
            "with another CNI set spec.kubelet.maxPods in each EC2NodeClass; else install the"
            " add-on vpc-cni",
        )
        return
    if cni.environment.get("ENABLE_POD_ENI") == "true" and (
        cni.environment.get("POD_SECURITY_GROUP_ENFORCING_MODE", "strict") == "strict"
    ):
        yield Finding(
            NOTE,
            "PodEni",
            f"DaemonSet {CNI}",
            "security groups for pods are strict: a node's branch interfaces limit such pods",
            "let pods that need one ask for vpc.amazonaws.com/pod-eni",
        )
    for pool in state.nodepools:
        refused = [one for one in daemons([cni], ()) if not one.accepts(pool.taints)]
        if pool.ours and refused:
            yield Finding(
                ERROR,
                "CniTaint",
                f"NodePool {pool.name}",
                "aws-node does not tolerate its taints: its nodes never become Ready",
                "give aws-node the toleration operator: Exists",
            )


def _devices(facts: Facts, state: ClusterState) -> Iterator[Finding]:
    if facts.catalog is None:
        return
    drivers = {one.name for one in state.device_classes}
    for pool in state.nodepools:
        maker = _maker(types_of(pool, facts.catalog)) if pool.ours else ""
        if not maker or DRIVERS[maker] in drivers or _brings_its_own(pool, state, maker):
            continue
        plugins = [one for one in state.daemonsets if _is_plugin(one, maker)]
        if not plugins:
            yield Finding(
                ERROR,
                "DevicePluginMissing",
                f"NodePool {pool.name}",
                f"no device plugin for its {maker} devices is installed: its nodes are never"
                " initialised",
                PLUGIN_FIX[maker],
            )
        elif not any(one.accepts(pool.taints) for one in daemons(plugins, ())):
            taints = ", ".join(taint.key for taint in pool.taints)
            yield Finding(
                ERROR,
                "DevicePluginTaint",
                f"NodePool {pool.name}",
                f"{plugins[0].key} does not tolerate its taints ({taints})",
                f"add the tolerations to the DaemonSet {plugins[0].key}",
            )


def _maker(kinds: tuple[InstanceType, ...]) -> str:
    """Return whose devices every one of *kinds* has; "" where some have none, or another's."""
    makers = {_maker_of(kind) for kind in kinds}
    return makers.pop() if len(makers) == 1 else ""


def _maker_of(kind: InstanceType) -> str:
    if kind.ec2 is None:
        return "nvidia" if "nvidia.com/gpu" in kind.capacity else ""
    if kind.ec2.neuron_devices:
        return "neuron"
    maker = kind.ec2.gpus[0].manufacturer.lower() if kind.ec2.gpus else ""
    return maker if maker in PLUGINS else ""


def _brings_its_own(pool: NodePool, state: ClusterState, maker: str) -> bool:
    """Return whether the image has the plugin: Bottlerocket's NVIDIA variants do."""
    node_class = state.nodeclass(pool.node_class)
    bottlerocket = node_class is not None and family_of(node_class) is Family.BOTTLEROCKET
    return bottlerocket and maker == "nvidia"


def _is_plugin(daemon: DaemonSet, maker: str) -> bool:
    words = (daemon.name, *daemon.template.images)
    return any(mark in word for mark in PLUGINS[maker] for word in words)


def _objects(state: ClusterState) -> Iterator[Finding]:
    for error in state.invalid:
        yield Finding(
            ERROR,
            "Malformed",
            error.thing,
            f"{error.path} {error.problem}".strip(),
            "correct the field; until then the object is left out",
        )
    for node_class in state.nodeclasses:
        ready = node_class.status.condition(readiness.READY)
        if ready is not None and ready.status == "False":
            yield Finding(
                ERROR,
                "NodeClassNotReady",
                f"EC2NodeClass {node_class.name}",
                ready.message or ready.reason,
                "correct what the message names; the class is looked at again within 15 minutes",
            )
    for pool in state.nodepools:
        if not pool.ours:
            continue
        if state.nodeclass(pool.node_class) is None:
            yield Finding(
                ERROR,
                "NodeClassMissing",
                f"NodePool {pool.name}",
                f"its EC2NodeClass {pool.node_class} does not exist",
                "make the class, or correct spec.template.spec.nodeClassRef",
            )
        if pool.paused:
            yield Finding(
                NOTE,
                "Paused",
                f"NodePool {pool.name}",
                "it is paused: nothing is launched or disrupted for it",
                f"kubectl annotate nodepool {pool.name} outrider.dev/paused-",
            )
