"""Laws of planning twice: what was planned and is on its way is not planned again.

The launches of a plan become NodeClaims, as the launcher writes them before EC2 has answered, and
as lifecycle leaves them once it has; the same pods are planned again, on top of them.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from outrider.apis import manifest
from tests.support.builders import (
    INSTANCE_TYPE,
    NODEPOOL,
    Json,
    catalog,
    expression,
    instance_type,
    nodepool,
    pod,
)
from tests.support.expect import planned
from tests.support.feasible import World
from tests.support.goods import NODECLASS
from tests.support.hunt import STRATEGIES
from tests.support.scenario import Scenario, scenario

SEEDS = range(60)


def _in_flight(launch: Json) -> Json:
    """Return the NodeClaim of *launch* while nobody knows yet what EC2 will give."""
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": launch["name"],
            "labels": {
                **launch["labels"],
                NODEPOOL: launch["nodePool"],
                NODECLASS: "default",
            },
            "annotations": {
                "outrider.dev/decision": "d",
                "outrider.dev/pods": ",".join(launch["pods"]),
            },
        },
        "spec": {
            "nodeClassRef": {
                "group": "karpenter.k8s.aws",
                "kind": "EC2NodeClass",
                "name": "default",
            },
            "requirements": launch["requirements"],
            "resources": {"requests": launch["requests"]},
            **({"taints": launch["taints"]} if launch["taints"] else {}),
        },
        "status": {},
    }


def _launched(launch: Json, case: Scenario, dice: Random) -> Json:
    """Return the NodeClaim of *launch* once EC2 has given one of its offerings."""
    claim = _in_flight(launch)
    world = World(list(case.documents), case.catalog)
    offering = dice.choice(launch["offerings"])
    option = world.goods.listed(launch, offering)
    assert not isinstance(option, str)
    machine = world.goods.machines(launch, option)[0]
    claim["metadata"]["labels"] |= {
        key: value for key, value in machine.labels.items() if key != "kubernetes.io/hostname"
    }
    claim["status"] = {
        "providerID": f"aws:///{offering['zone']}/i-{launch['name']}",
        "capacity": option.kind["capacity"],
        "allocatable": {name: _text(amount) for name, amount in machine.room.items()},
    }
    return claim


def _text(amount: Any) -> str:
    return f"{int(amount * 1000)}m"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_on_its_way_is_not_planned_again(strategy: str) -> None:
    """Whatever EC2 gave, the second plan launches nothing and leaves out no more pods."""
    for seed in SEEDS:
        case = scenario(seed)
        first = planned(*case.documents, catalog=case.catalog, strategy=strategy, **case.policy)
        dice = Random(seed)
        claims = [_launched(launch, case, dice) for launch in first.json["launches"]]
        again = planned(
            *case.documents, *claims, catalog=case.catalog, strategy=strategy, **case.policy
        )
        assert again.launched() == [], seed
        assert len(again.rejected()) <= len(first.rejected()), seed  # siblings may swap


def test_a_list_is_never_shorter_than_its_min_values() -> None:
    """Under BestEffort the NodeClaim asks for no more variety than there is: it must be valid."""
    line = {**expression(INSTANCE_TYPE, "Exists"), "minValues": 3}
    goods = catalog(instance_type("a"), instance_type("b"))
    plan = planned(
        pod(), nodepool(requirements=[line]), catalog=goods, min_values_policy="BestEffort"
    )
    stated = {
        item["key"]: (sorted(item["values"]), item.get("minValues"))
        for item in plan.json["launches"][0]["requirements"]
        if item["operator"] == "In"
    }
    assert stated[INSTANCE_TYPE] == (["a", "b"], 2)
    manifest.parse(_in_flight(plan.json["launches"][0]))
