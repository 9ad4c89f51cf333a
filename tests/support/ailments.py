"""Ailments of an account and a cluster: each planted into the embedded cloud, and taken out again.

One context manager an ailment, named after what is wrong; `AILMENTS` says which finding the doctor
owes for it. What moto or a room of the cloud answers is altered at the endpoint, what the cluster
holds is altered as an administrator would. Not faked: the doctor's own way of asking.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import yaml

from outrider.core.doctor import capacity
from outrider.local.account import NODE_ROLE, NODE_ROLE_ARN, SPOT_ROLE
from tests.support.stage import ROOT, Stage, karpenter_lease, node_class, pool

Json = dict[str, Any]
Planted = AbstractContextManager[None]
HOOKS = "validatingwebhookconfigurations.admissionregistration.k8s.io"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
ROLES = "clusterroles.rbac.authorization.k8s.io"
DAEMONS = "daemonsets.apps"
SYSTEM = "kube-system"


@dataclass(frozen=True)
class Ailment:
    """What is planted, what the doctor has to find, and by which words it is asked."""

    name: str
    plant: Callable[[Stage], Planted]
    finds: frozenset[str]
    severity: str = "error"
    words: tuple[str, ...] = ()


def system_daemons() -> list[Json]:
    """Return the DaemonSets that every GPU cluster runs, as the examples have them."""
    text = (ROOT / "examples/00-system/daemonsets.yaml").read_text()
    return [one for one in yaml.safe_load_all(text) if one["metadata"]["namespace"] == SYSTEM]


# --- the account ----------------------------------------------------------------------------------


@contextmanager
def altered(stage: Stage, operation: str, change: Callable[[Json], None]) -> Iterator[None]:
    """Let *operation* answer what it answers, changed."""
    operations = stage.cloud.endpoint._operations
    known = operations[operation]

    def serve(wanted: Json, call: Any) -> Json:
        answer = deepcopy(dict(known(wanted, call) or {}))
        change(answer)
        return answer

    operations[operation] = serve
    try:
        yield
    finally:
        operations[operation] = known


def plane(changes: Mapping[str, Any]) -> Callable[[Stage], Planted]:
    """Return what lets EKS describe the cluster with *changes*."""

    def change(answer: Json) -> None:
        for key, value in changes.items():
            known = answer["cluster"].get(key)
            answer["cluster"][key] = {**known, **value} if isinstance(known, dict) else value

    return lambda stage: altered(stage, "eks:DescribeCluster", change)


def stack_in(status: str) -> Callable[[Stage], Planted]:
    """Return what lets CloudFormation describe the stack in *status*."""

    def change(answer: Json) -> None:
        answer["Stacks"][0]["StackStatus"] = status

    return lambda stage: altered(stage, "cloudformation:DescribeStacks", change)


def parameter(name: str, value: str) -> Callable[[Stage], Planted]:
    """Return what lets the stack have been deployed with another parameter."""

    @contextmanager
    def plant(stage: Stage) -> Iterator[None]:
        assert stage.cloud.stack is not None
        before = stage.cloud.stack.parameters[name]
        stage.cloud.stack.parameters[name] = value
        yield
        stage.cloud.stack.parameters[name] = before

    return plant


@contextmanager
def entry_gone(stage: Stage, principal: str) -> Iterator[None]:
    """Delete the access entry of a principal whose name contains *principal*."""
    entries = stage.cloud.eks._entries
    (key,) = (one for one in entries if principal in one)
    kept = entries[key]
    client = stage.cloud.client("eks")
    client.delete_access_entry(clusterName="local", principalArn=key)
    yield
    entries[key] = kept


@contextmanager
def entry_without_group(stage: Stage) -> Iterator[None]:
    """Take the drain function's group off its access entry."""
    (entry,) = (one for key, one in stage.cloud.eks._entries.items() if "DrainFunction" in key)
    kept = entry.groups
    stage.cloud.client("eks").update_access_entry(
        clusterName="local", principalArn=entry.principal, kubernetesGroups=["viewers"]
    )
    yield
    entry.groups = kept


@contextmanager
def untrusted(stage: Stage) -> Iterator[None]:
    """Let another service than EC2 take the node role."""
    iam = stage.cloud.client("iam")
    before = iam.get_role(RoleName=NODE_ROLE)["Role"]["AssumeRolePolicyDocument"]
    after = json.dumps(before).replace("ec2.amazonaws.com", "lambda.amazonaws.com")
    iam.update_assume_role_policy(RoleName=NODE_ROLE, PolicyDocument=after)
    yield
    iam.update_assume_role_policy(RoleName=NODE_ROLE, PolicyDocument=json.dumps(before))


@contextmanager
def without_policy(stage: Stage) -> Iterator[None]:
    """Take the pull policies off the node role."""
    iam = stage.cloud.client("iam")
    attached = iam.list_attached_role_policies(RoleName=NODE_ROLE)["AttachedPolicies"]
    (arn,) = (one["PolicyArn"] for one in attached if "Registry" in one["PolicyName"])
    iam.detach_role_policy(RoleName=NODE_ROLE, PolicyArn=arn)
    yield
    iam.attach_role_policy(RoleName=NODE_ROLE, PolicyArn=arn)


@contextmanager
def no_spot_role(stage: Stage) -> Iterator[None]:
    """Delete Spot's service-linked role, as in an account that never asked for Spot."""
    iam = stage.cloud.client("iam")
    role = iam.get_role(RoleName=SPOT_ROLE)["Role"]
    iam.delete_role(RoleName=SPOT_ROLE)
    yield
    iam.create_role(
        RoleName=SPOT_ROLE,
        Path=role["Path"],
        AssumeRolePolicyDocument=json.dumps(role["AssumeRolePolicyDocument"]),
    )


@contextmanager
def young_account(stage: Stage) -> Iterator[None]:
    """Let the account have no vCPU of accelerated families."""
    stage.cloud.quotas.vcpus.update(dict.fromkeys(capacity.QUOTAS["g"][1:], 0.0))
    yield
    stage.cloud.quotas.vcpus.clear()


@contextmanager
def no_spot_quota(stage: Stage) -> Iterator[None]:
    """Let the account have no vCPU of accelerated families on Spot."""
    stage.cloud.quotas.vcpus[capacity.QUOTAS["g"][2]] = 2.0
    yield
    stage.cloud.quotas.vcpus.clear()


@contextmanager
def few_executions(stage: Stage) -> Iterator[None]:
    """Let Lambda run ten functions at once, as in a new account."""
    stage.cloud.quotas.concurrent = 10
    yield
    stage.cloud.quotas.concurrent = 1_000


@contextmanager
def rule_off(stage: Stage) -> Iterator[None]:
    """Disable the rule of interruptions."""
    assert stage.cloud.stack is not None
    name = stage.cloud.stack.made["InterruptionRule"].physical_id
    events = stage.cloud.client("events")
    events.disable_rule(Name=name)
    yield
    events.enable_rule(Name=name)


@contextmanager
def dead_letter(stage: Stage) -> Iterator[None]:
    """Leave a message in a dead-letter queue."""
    assert stage.cloud.stack is not None
    urls = stage.cloud.stack.outputs["DeadLetterQueueUrls"].split(",")
    (url,) = (one for one in urls if "EventDead" in one)
    sqs = stage.cloud.client("sqs")
    sqs.send_message(QueueUrl=url, MessageBody="given up on")
    yield
    sqs.purge_queue(QueueUrl=url)


@contextmanager
def no_catalogue(stage: Stage) -> Iterator[None]:
    """Forget the catalogue, as before the catalog function's first run."""
    assert stage.cloud.stack is not None
    table = stage.cloud.stack.outputs["LedgerTable"]
    key = {"pk": {"S": "catalog"}, "sk": {"S": "pointer"}}
    dynamodb = stage.cloud.client("dynamodb")
    kept = dynamodb.get_item(TableName=table, Key=key)["Item"]
    dynamodb.delete_item(TableName=table, Key=key)
    yield
    dynamodb.put_item(TableName=table, Item=kept)


@contextmanager
def refused(stage: Stage) -> Iterator[None]:
    """Let IAM refuse whoever asks for quotas."""
    broken = {"code": "AccessDeniedException", "times": 100}
    stage.cloud.faults.set({"fail": {"servicequotas:GetServiceQuota": broken}})
    yield
    stage.cloud.faults.set({})


# --- the network ----------------------------------------------------------------------------------


@contextmanager
def tiny_subnet(stage: Stage) -> Iterator[None]:
    """Let a node class select a subnet of sixteen addresses."""
    assert stage.cloud.network is not None
    ec2 = stage.cloud.client("ec2")
    tag = {"Key": "size", "Value": "tiny"}
    subnet = ec2.create_subnet(
        VpcId=stage.cloud.network.vpc,
        CidrBlock="10.0.255.0/28",
        AvailabilityZone="us-east-1a",
        TagSpecifications=[{"ResourceType": "subnet", "Tags": [tag]}],
    )["Subnet"]["SubnetId"]
    with present(stage, node_class("tiny", subnetSelectorTerms=[{"tags": {"size": "tiny"}}])):
        yield
    ec2.delete_subnet(SubnetId=subnet)


# --- the cluster ----------------------------------------------------------------------------------

_STORAGES = {
    "EC2NodeClass": "ec2nodeclasses.karpenter.k8s.aws",
    "NodePool": "nodepools.karpenter.sh",
    "DaemonSet": DAEMONS,
    "Deployment": "deployments.apps",
    "Lease": "leases.coordination.k8s.io",
}


@contextmanager
def present(stage: Stage, one: Json) -> Iterator[None]:
    """Let an object be there."""
    stage.apply(one)
    yield
    meta = one["metadata"]
    stage.delete(_STORAGES[one["kind"]], meta["name"], meta.get("namespace", ""))


@contextmanager
def absent(stage: Stage, storage: str, name: str, namespace: str = "") -> Iterator[None]:
    """Let an object not be there."""
    kept = stage.get(storage, name, namespace)
    assert kept is not None
    stage.delete(storage, name, namespace)
    yield
    stage.apply(clean(kept))


@contextmanager
def changed(
    stage: Stage, storage: str, name: str, change: Callable[[Json], None], namespace: str = ""
) -> Iterator[None]:
    """Let an object be different: it is made anew, with the change and later without."""
    kept = stage.get(storage, name, namespace)
    assert kept is not None
    other = clean(kept)
    change(other)
    stage.delete(storage, name, namespace)
    stage.apply(other)
    yield
    stage.delete(storage, name, namespace)
    stage.apply(clean(kept))


def clean(one: Json) -> Json:
    """Return an object as it was applied once: without what the server adds."""
    kept = deepcopy(one)
    known = ("name", "namespace", "labels", "annotations")
    kept["metadata"] = {key: kept["metadata"][key] for key in known if key in kept["metadata"]}
    kept.pop("status", None)
    return kept


def intolerant(daemon: Json) -> None:
    """Take the tolerations off a DaemonSet."""
    daemon["spec"]["template"]["spec"].pop("tolerations", None)


def toothless(role: Json) -> None:
    """Take a rule off a ClusterRole."""
    role["rules"] = [rule for rule in role["rules"] if "pods/eviction" not in rule["resources"]]


def hook(field: str, value: Any) -> Callable[[Json], None]:
    """Return what sets a field of the webhook."""

    def change(configuration: Json) -> None:
        configuration["webhooks"][0][field] = value

    return change


def converted(definition: Json) -> None:
    """Let a Karpenter that is gone convert between versions."""
    service = {"name": "karpenter", "namespace": SYSTEM, "port": 8443}
    definition["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": {"service": service}, "conversionReviewVersions": ["v1"]},
    }


def older(definition: Json) -> None:
    """Let a definition serve the version before v1."""
    definition["spec"]["versions"][0]["name"] = "v1beta1"


def daemon(name: str) -> Json:
    """Return a DaemonSet of the system that tolerates everything."""
    labels = {"app": name}
    container = {"name": "main", "image": f"registry.example/{name}:1"}
    spec = {"tolerations": [{"operator": "Exists"}], "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": SYSTEM},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def autoscaler() -> Json:
    """Return the Cluster Autoscaler's Deployment."""
    one = daemon("cluster-autoscaler")
    return {**one, "kind": "Deployment", "spec": {**one["spec"], "replicas": 1}}


@contextmanager
def karpenter(stage: Stage) -> Iterator[None]:
    """Let a Karpenter be live."""
    with present(stage, karpenter_lease(stage)):
        yield


@contextmanager
def fast_clock(stage: Stage) -> Iterator[None]:
    """Let a node renew its Lease in ten minutes."""
    at = stage.cloud.clock.now() + timedelta(minutes=10)
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "ip-10-0-0-7.ec2.internal", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "x", "renewTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
    }
    with present(stage, lease):
        yield


@contextmanager
def unready_class(stage: Stage) -> Iterator[None]:
    """Let a node class say that it is not ready."""
    with present(stage, node_class("sick")):
        condition = {
            "type": "Ready",
            "status": "False",
            "reason": "UnhealthyDependents",
            "message": "no AMI for the alias al2023@v20240101",
            "lastTransitionTime": "2026-03-02T12:00:00Z",
        }
        status = {"status": {"conditions": [condition]}}
        stage._client.patch(_STORAGES["EC2NodeClass"], ("", "sick"), status, "status")
        yield


@contextmanager
def nothing() -> Iterator[None]:
    """Plant nothing: the words of the command are the ailment."""
    yield


def _made(one: Callable[[], Json]) -> Callable[[Stage], Planted]:
    return lambda stage: present(stage, one())


def _row(
    name: str, plant: Callable[..., Planted], *finds: str, severity: str = "error", words: str = ""
) -> Ailment:
    return Ailment(name, plant, frozenset(finds), severity, tuple(words.split()))


def _altered(storage: str, name: str, change: Callable[[Json], None]) -> Callable[[Stage], Planted]:
    namespace = SYSTEM if storage == DAEMONS else ""
    return lambda stage: changed(stage, storage, name, change, namespace)


def _gone(storage: str, name: str) -> Callable[[Stage], Planted]:
    namespace = SYSTEM if storage == DAEMONS else ""
    return lambda stage: absent(stage, storage, name, namespace)


NOWHERE = {"url": "https://set-webhook-url.invalid/hint/secret"}
ELSEWHERE = {"url": "https://another.execute-api.us-east-1.amazonaws.com/hint/secret"}
NO_TAGS = [{"tags": {"nobody": "has"}}]

AILMENTS: tuple[Ailment, ...] = (
    _row(
        "authentication by config map",
        plane({"accessConfig": {"authenticationMode": "CONFIG_MAP"}}),
        "AuthenticationMode",
    ),
    _row("a failed cluster", plane({"status": "FAILED"}), "ClusterUnwell"),
    _row(
        "a cluster with a health issue",
        plane({"health": {"issues": [{"code": "Ec2SubnetNotFound", "message": "gone"}]}}),
        "ClusterUnwell",
        severity="warning",
    ),
    _row(
        "a private endpoint",
        plane({"resourcesVpcConfig": {"endpointPublicAccess": False}}),
        "EndpointPrivate",
    ),
    _row(
        "an endpoint for one network",
        plane({"resourcesVpcConfig": {"publicAccessCidrs": ["203.0.113.0/24"]}}),
        "EndpointCidrs",
    ),
    _row("an old cluster", plane({"version": "1.29"}), "KubernetesVersion"),
    _row("Auto Mode", plane({"computeConfig": {"enabled": True}}), "AutoMode", severity="warning"),
    _row(
        "a function without access entry",
        partial(entry_gone, principal="ProvisionFunction"),
        "FunctionAccessEntry",
    ),
    _row("a function without its group", entry_without_group, "FunctionAccessEntry"),
    _row("nodes without access entry", partial(entry_gone, principal=NODE_ROLE), "NodeAccessEntry"),
    _row(
        "a node role that is not there",
        parameter("NodeRoleArns", f"{NODE_ROLE_ARN},{NODE_ROLE_ARN}-2"),
        "NodeRoleMissing",
    ),
    _row("a node role that EC2 may not take", untrusted, "NodeRoleTrust"),
    _row("a node role without a policy", without_policy, "NodeRolePolicies", severity="warning"),
    _row("no Spot role", no_spot_role, "SpotRoleMissing", severity="warning"),
    _row("no vCPUs at all", young_account, "VcpuQuota"),
    _row("no vCPUs on Spot", no_spot_quota, "VcpuQuota", severity="warning"),
    _row("few concurrent executions", few_executions, "LambdaConcurrency", severity="warning"),
    _row("no stack", lambda _stage: nothing(), "StackMissing", words="--stack another"),
    _row("a stack that failed", stack_in("UPDATE_ROLLBACK_FAILED"), "StackUnwell"),
    _row("a rule that is off", rule_off, "RuleDisabled"),
    _row("a dead letter", dead_letter, "DeadLetters", severity="warning"),
    _row("no catalogue", no_catalogue, "CatalogMissing"),
    _row("a refused question", refused, "Unchecked", severity="warning"),
    _row("a stack that observes", parameter("Mode", "observe"), "Observes", severity="note"),
    _row("a subnet that is full of prefixes", tiny_subnet, "FewAddresses", "NoFreePrefix"),
    _row(
        "no subnet",
        _made(lambda: node_class("lost", subnetSelectorTerms=NO_TAGS)),
        "NoSubnet",
    ),
    _row(
        "no security group",
        _made(lambda: node_class("open", securityGroupSelectorTerms=NO_TAGS)),
        "NoSecurityGroup",
    ),
    _row(
        "no definition of NodeClaims",
        _gone(DEFINITIONS, "nodeclaims.karpenter.sh"),
        "DefinitionMissing",
    ),
    _row(
        "a definition converted by the dead",
        _altered(DEFINITIONS, "nodeclaims.karpenter.sh", converted),
        "DefinitionConversion",
    ),
    _row(
        "a definition of yesterday",
        _altered(DEFINITIONS, "nodeclaims.karpenter.sh", older),
        "DefinitionVersion",
    ),
    _row("a role without a rule", _altered(ROLES, "outrider:drain", toothless), "AccessDiffers"),
    _row("a role that is gone", _gone(ROLES, "outrider:reader"), "AccessDiffers"),
    _row("no webhook", _gone(HOOKS, "outrider"), "WebhookMissing", severity="warning"),
    _row(
        "a webhook to nowhere",
        _altered(HOOKS, "outrider", hook("clientConfig", NOWHERE)),
        "WebhookElsewhere",
        severity="warning",
    ),
    _row(
        "a webhook to another stack",
        _altered(HOOKS, "outrider", hook("clientConfig", ELSEWHERE)),
        "WebhookElsewhere",
        severity="warning",
    ),
    _row(
        "a webhook that refuses Events",
        _altered(HOOKS, "outrider", hook("failurePolicy", "Fail")),
        "WebhookFails",
    ),
    _row("a live Karpenter", karpenter, "KarpenterLive", severity="warning"),
    _row("a Cluster Autoscaler", _made(autoscaler), "AutoscalerLive", severity="warning"),
    _row(
        "a termination handler",
        _made(lambda: daemon("aws-node-termination-handler")),
        "TerminationHandler",
        severity="warning",
    ),
    _row("no CNI", _gone(DAEMONS, "aws-node"), "CniMissing", severity="warning"),
    _row("a CNI that stays away", _altered(DAEMONS, "aws-node", intolerant), "CniTaint"),
    _row("no device plugin", _gone(DAEMONS, "nvidia-device-plugin"), "DevicePluginMissing"),
    _row(
        "a device plugin that stays away",
        _altered(DAEMONS, "nvidia-device-plugin", intolerant),
        "DevicePluginTaint",
    ),
    _row("a node with a fast clock", fast_clock, "ClockSkew", severity="warning"),
    _row("a node class that is not ready", unready_class, "NodeClassNotReady"),
    _row(
        "a NodePool without its class",
        _made(lambda: pool("stray", node_class="nowhere")),
        "NodeClassMissing",
    ),
    _row(
        "a paused NodePool",
        _made(lambda: pool("idle", annotations={"outrider.dev/paused": "true"})),
        "Paused",
        severity="note",
    ),
)
