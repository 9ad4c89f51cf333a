"""A second cluster and a second stack in the account of an embedded cloud, and who touched what.

`beside` adds another EKS cluster with a Kubernetes API of its own and deploys template.yaml for it;
both stacks share account, region, network, default bus and the market. `Watch` reads every call
that a function makes and names the foreign touches: a call that changes something and names an
instance, volume, snapshot, template, table or queue that belongs to the other stack. Not faked:
which stack a call comes from is what its credentials say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from outrider import manifests
from outrider.apis import labels
from outrider.local import images
from outrider.local.account import NODE_ROLE, NODE_ROLE_ARN
from outrider.local.cloud import STACK, Cloud
from outrider.local.cluster import EmbeddedCluster
from outrider.local.eks import Eks
from outrider.local.stack import Rooms, Stack
from outrider.local.template import translate
from outrider.local.wire import Call
from tests.support.stage import TEMPLATE, Stage

Json = dict[str, Any]
OTHER = "other"
OTHER_STACK = "outrider-other"
LOOKS = ("Describe", "Get", "List", "Query", "BatchGet", "Search", "Receive")
IDS = re.compile(r"\b(?:i|vol|snap|lt|eni)-[0-9a-f]{8,17}\b")
NAMES = re.compile(rf"\b(?:{STACK}|{OTHER_STACK})-[A-Za-z.]+")


@dataclass
class Neighbour:
    """The second stack and its cluster."""

    cloud: Cloud
    cluster: EmbeddedCluster
    stack: Stack

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or update objects as an administrator."""
        self.cluster.apply(objects)

    def all(self, storage: str) -> list[Json]:
        """Return every object of a kind."""
        return list(self.cluster.api.store.objects(storage))

    def runs(self, name: str) -> bool:
        """Return whether a pod of the namespace default runs."""
        return any(
            one["metadata"]["name"] == name and one["status"].get("phase") == "Running"
            for one in self.all("pods")
        )


@contextmanager
def beside(stage: Stage) -> Iterator[Neighbour]:
    """Give the account of *stage* a second cluster with a stack of its own."""
    cloud = stage.cloud
    assert cloud.network is not None
    eks = Eks(cloud.endpoint, cloud.clock, OTHER, images.KUBERNETES, cloud.desk.role_of)
    _serve_both(cloud, eks)
    eks.network = dict(cloud.eks.network)
    cluster = EmbeddedCluster(
        cloud.clock,
        cloud.timeline,
        authenticate=eks.authenticate,
        name=OTHER,
        seed=1,
        instances=cloud.instances,
    )
    cluster.start()
    try:
        eks.address, eks.ca_pem = cluster.url, cluster.ca_pem
        stack = _deployed(cloud)
        secret = stack.made["WebhookSecret"].physical_id
        value = cloud.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
        url = f"{stack.outputs['WebhookUrl']}/{value}"
        cluster.apply(manifests.render(cluster=OTHER, webhook_url=url))
        yield Neighbour(cloud, cluster, stack)
    finally:
        cluster.stop()


def _deployed(cloud: Cloud) -> Stack:
    values = {
        "ClusterName": OTHER,
        "NodeRoleArns": NODE_ROLE_ARN,
        "Mode": "full",
        "CreateNodeAccessEntry": "true",
    }
    template = translate(TEMPLATE, values)
    parameters = {
        name: values.get(name, declared.get("Default", ""))
        for name, declared in template.parameters.items()
    }
    rooms = Rooms(
        client=cloud.client,
        url=cloud.url,
        functions=cloud.functions,
        pollers=cloud.pollers,
        schedules=cloud.schedules,
        gateway=cloud.gateway,
        alarms=cloud.alarms,
    )
    stack = Stack(template, parameters, rooms, OTHER_STACK)
    stack.deploy()
    return stack


def _serve_both(cloud: Cloud, second: Eks) -> None:
    """Let EKS answer for both clusters, by the name that is asked for."""
    operations = cloud.endpoint._operations
    firsts = {name: one for name, one in operations.items() if name.startswith("eks:")}
    second.install()

    def answer(first: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
        def serve(wanted: Json, call: Call) -> Any:
            is_other = OTHER in {wanted.get("name"), wanted.get("clusterName")}
            return (other if is_other else first)(wanted, call)

        return serve

    for name, first in firsts.items():
        cloud.endpoint.serve(name, answer(first, operations[name]))


@dataclass
class Watch:
    """Reads the functions' calls; `foreign` are those that touch what is the other's."""

    cloud: Cloud
    calls: dict[str, int] = field(default_factory=dict)
    named: list[tuple[str, str, str]] = field(default_factory=list)  # stack, call, what it names

    def __post_init__(self) -> None:
        """Look at every call before it is answered."""
        known = self.cloud.endpoint.gatekeeper
        assert known is not None
        self._known = known
        self.cloud.endpoint.gatekeeper = self

    def refuse(self, call: Call) -> Exception | None:
        """Note what a function's call names, and let whoever decides decide."""
        role = self.cloud.desk.role_of(call.access_key)
        if role is not None:
            stack = OTHER_STACK if f"/{OTHER_STACK}-" in role else STACK
            self.calls[stack] = self.calls.get(stack, 0) + 1
            if not call.operation.startswith(LOOKS):
                text = unquote_plus(call.body.decode("utf-8", "replace"))
                for name in {*IDS.findall(text), *NAMES.findall(text)}:
                    self.named.append((stack, call.name, name))
        return self._known.refuse(call)

    def foreign(self) -> list[tuple[str, str, str]]:
        """Return (stack, call, thing) of every touch of what is the other stack's."""
        owners = self._owners()
        return [
            (stack, call, name)
            for stack, call, name in self.named
            if (owner := owners.get(name) or _by_name(name)) and owner != stack
        ]

    def owned(self, stack: str, kind: str) -> set[str]:
        """Return the ids of a *kind* (`i-`, `snap-`) that a stack's tags claim, ended ones too."""
        owners = self._owners()
        return {name for name, owner in owners.items() if owner == stack and name.startswith(kind)}

    def _owners(self) -> dict[str, str]:
        """Return whose each resource is, as its tag says; moto keeps tags of what is gone."""
        pages = self.cloud.client("ec2").get_paginator("describe_tags")
        filters = [{"Name": "key", "Values": [labels.MANAGED_BY]}]
        return {
            one["ResourceId"]: one["Value"]
            for page in pages.paginate(Filters=filters)
            for one in page["Tags"]
            if one["Key"] == labels.MANAGED_BY
        }


def _by_name(name: str) -> str:
    if name == NODE_ROLE:  # the account's, for both
        return ""
    return next((one for one in (OTHER_STACK, STACK) if name.startswith(f"{one}-")), "")
