"""Expectations: plan some manifests, and ask the answer in the words of a scheduler's user."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson

from outrider.apis import manifest
from outrider.apis.duration import instant
from outrider.cli.plan import shown
from outrider.core.catalog import codec
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling.plan import pending, plan
from outrider.core.scheduling.policy import Policy
from outrider.core.scheduling.result import Launch, Plan
from tests.support import builders
from tests.support.builders import NOW, ZONE, Json

OPEN_POOL = builders.nodepool(
    requirements=[builders.expression(builders.CAPACITY_TYPE, "In", "spot", "on-demand")]
)


@dataclass(frozen=True)
class Planned:
    """A plan, and what it was made from."""

    documents: tuple[Json, ...]
    catalog: Json
    plan: Plan
    pods: int
    labels: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def json(self) -> Json:
        """Return the plan as the command prints it."""
        found: Json = orjson.loads(orjson.dumps(shown(self.plan, self.pods, {})))
        return found

    def placed_on(self, pod: str) -> str | None:
        """Return the existing node or the launch that *pod* is on, None where it has no place."""
        key = pod if "/" in pod else f"default/{pod}"
        for placement in self.plan.placements:
            if placement.pod == key:
                return placement.node
        launch = self.launch_of(pod)
        return launch.name if launch else None

    def launch_of(self, pod: str) -> Launch | None:
        """Return the launch that *pod* is for."""
        key = pod if "/" in pod else f"default/{pod}"
        return next((item for item in self.plan.launches if key in item.pods), None)

    def launched(self) -> list[str]:
        """Return the NodePools of the launches."""
        return [item.node_pool for item in self.plan.launches]

    def types(self, pod: str) -> set[str]:
        """Return the instance types on the list for *pod*."""
        launch = self.launch_of(pod)
        return set(launch.instance_types) if launch else set()

    def zones(self, pod: str) -> set[str]:
        """Return the zones on the list for *pod*."""
        launch = self.launch_of(pod)
        return {choice.zone for choice in launch.choices} if launch else set()

    def capacity_types(self, pod: str) -> set[str]:
        """Return the capacity types on the list for *pod*."""
        launch = self.launch_of(pod)
        return {choice.capacity_type for choice in launch.choices} if launch else set()

    def rejected(self) -> dict[str, set[str]]:
        """Return the codes of every pod without a place, by name."""
        return {
            item.pod.removeprefix("default/"): {str(reason.code) for reason in item.reasons}
            for item in self.plan.rejections
        }

    def reason(self, pod: str) -> str:
        """Return the first reason of a pod without a place."""
        for item in self.plan.rejections:
            if item.pod.removeprefix("default/") == pod:
                return item.reasons[0].message
        return ""

    def skew(self, key: str = ZONE) -> list[int]:
        """Return how many planned pods are in each domain of *key*, largest first."""
        numbers: Counter[str] = Counter()
        for launch in self.plan.launches:
            if key == builders.HOSTNAME:
                numbers[launch.name] += len(launch.pods)
                continue
            values = {_value(choice, launch, key) for choice in launch.choices}
            assert len(values) == 1, f"{launch.name} may be in {sorted(map(str, values))}"
            numbers[str(values.pop())] += len(launch.pods)
        for placement in self.plan.placements:
            where = self.labels.get(placement.node, {})
            numbers[where.get(key, placement.node)] += 1
        return sorted(numbers.values(), reverse=True)

    def cost(self) -> float:
        """Return the price of the plan per hour."""
        return self.plan.price_per_hour


def _value(choice: Any, launch: Launch, key: str) -> str | None:
    if key == ZONE:
        return str(choice.zone)
    if key == builders.CAPACITY_TYPE:
        return str(choice.capacity_type)
    return launch.labels.get(key)


def planned(
    *documents: Json,
    catalog: Json | None = None,
    strategy: str = "first-fit",
    now: str = NOW,
    **policy: Any,
) -> Planned:
    """Plan the pending pods of *documents*; an open NodePool is added where there is none."""
    given = list(documents)
    if not any(item["kind"] == "NodePool" for item in given):
        given.append(OPEN_POOL)
    goods = catalog or builders.catalog()
    state = ClusterState.of([read for item in given if (read := manifest.parse(item)) is not None])
    at = instant(now)
    pods = pending(state, at)
    answer = plan(state, pods, codec.read(goods), Policy(strategy=strategy, **policy), at)
    labels = {node.name: dict(node.labels) for node in state.nodes}
    return Planned(tuple(given), goods, answer, len(pods), labels)
