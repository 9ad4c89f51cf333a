"""Every code of the command line's contract, each with a reason that names the nearest miss."""

from __future__ import annotations

import pytest

from outrider.core.scheduling.result import Code
from tests.support.builders import (
    HOSTNAME,
    NODEPOOL,
    ZONE,
    ZONES,
    Json,
    catalog,
    claim,
    daemonset,
    expression,
    instance_type,
    node,
    nodeclaim,
    nodepool,
    offering,
    pod,
    preference,
    spread,
    storage_class,
    taint,
    term,
    volume,
)
from tests.support.expect import planned

APP = {"app": "a"}
POOL = nodepool()
SOLD_OUT = catalog(instance_type("m", offerings=[offering(ZONES[0], available=False)]))
ONE_SLOT = catalog(instance_type("m", resources={"attachable-volumes-aws-ebs": "1"}))
VARIED = {**expression("node.kubernetes.io/instance-type", "Exists"), "minValues": 9}
CLASS = storage_class()

CASES: list[tuple[str, list[Json], Json | None, str]] = [
    (
        "InsufficientResources",
        [pod(gpu=16), POOL],
        None,
        "needs 16 nvidia.com/gpu; the largest allowed type, p.eight, has 8",
    ),
    (
        "IncompatibleRequirements",
        [pod(selector={ZONE: "nowhere"}), POOL],
        None,
        (
            "topology.kubernetes.io/zone In nowhere cannot be met:"
            " no instance type of the NodePool has it"
        ),
    ),
    (
        "UntoleratedTaint",
        [pod(), nodepool(taints=[taint("team", value="x")])],
        None,
        "does not tolerate taint team=x:NoSchedule",
    ),
    (
        "TopologySpread",
        [
            pod(
                labels=APP,
                spread=[spread(ZONE, APP, nodeAffinityPolicy="Ignore")],
                selector={ZONE: ZONES[0]},
            ),
            node("n", zone=ZONES[0], cpu="0"),
            pod("there", node="n", cpu="0", labels=APP),
            POOL,
        ],
        None,
        "every domain of topology.kubernetes.io/zone that it could use would break maxSkew",
    ),
    (
        "PodAffinity",
        [pod(near=[term(ZONE, APP)]), POOL],
        None,
        "no domain of topology.kubernetes.io/zone that it could use holds a pod it must be near",
    ),
    (
        "PodAffinity",
        [pod(near=[term(HOSTNAME, APP)]), POOL],
        None,
        "the pods that it must share a node with have no room, or do not exist",
    ),
    (
        "PodAntiAffinity",
        [
            pod(apart=[term(ZONE, APP)], selector={ZONE: ZONES[0]}),
            node("n", zone=ZONES[0], cpu="0"),
            pod("there", node="n", cpu="0", labels=APP),
            POOL,
        ],
        None,
        (
            "every domain of topology.kubernetes.io/zone that it could use holds a pod that must"
            " stay apart"
        ),
    ),
    (
        "VolumeZone",
        [
            pod(claims=["c"], selector={ZONE: ZONES[1]}),
            claim("c", volume="v"),
            volume("v", [expression(ZONE, "In", ZONES[0])]),
            POOL,
        ],
        None,
        (
            "its volumes: topology.kubernetes.io/zone In test-zone-1 cannot be met:"
            " nothing that the pod itself may run on has it"
        ),
    ),
    (
        "VolumeLimits",
        [pod(claims=["c", "d"]), claim("c"), claim("d"), CLASS, POOL],
        ONE_SLOT,
        "no instance type attaches 2 volumes",
    ),
    (
        "HostPort",
        [pod(host_port=80), daemonset(host_port=80), POOL],
        None,
        "a DaemonSet takes the same host port",
    ),
    (
        "LimitsExceeded",
        [pod(), nodepool(limits={"cpu": "1"})],
        None,
        "limit cpu 1 leaves 1, less than any fitting type takes",
    ),
    ("NodePoolNotReady", [pod(), nodepool(ready=False)], None, "is not ready"),
    ("NoOffering", [pod(), POOL], SOLD_OUT, "no fitting offering is available now"),
    (
        "MinValues",
        [pod(), nodepool(requirements=[VARIED])],
        None,
        "minValues wants 9 values of node.kubernetes.io/instance-type; 7 are left",
    ),
    (
        "Gang",
        [pod(annotations={"outrider.dev/gang": "g", "outrider.dev/gang-size": "2"}), POOL],
        None,
        "gang default/g needs 2 members; 1 of them exist",
    ),
    (
        "StaticPool",
        [pod(), nodepool(replicas=1)],
        None,
        "keeps a fixed number of nodes (spec.replicas)",
    ),
    ("InvalidVolume", [pod(claims=["ghost"]), POOL], None, "claim ghost does not exist"),
    (
        "DynamicResources",
        [
            pod(spec={"resourceClaims": [{"name": "gpu", "resourceClaimName": "ghost"}]}),
            POOL,
        ],
        None,
        "ghost",
    ),
]


@pytest.mark.parametrize(("code", "documents", "goods", "words"), CASES)
def test_a_reason_names_the_nearest_miss(
    code: str, documents: list[Json], goods: Json | None, words: str
) -> None:
    """Whatever keeps a pod out has its own code, and says in words how near it was."""
    answer = planned(*documents, catalog=goods)
    assert answer.rejected() == {"pod": {code}}
    assert words in answer.reason("pod")


def test_every_code_is_reached() -> None:
    """The table above leaves no code of the contract out."""
    assert {code for code, *_ in CASES} == set(Code)


def test_pods_that_are_not_pending() -> None:
    """Gated pods, and pods that somebody else nominated, are nobody's business yet."""
    gated = pod("gated", spec={"schedulingGates": [{"name": "example.com/wait"}]})
    promised = pod("promised", status={"nominatedNodeName": "n"})
    answer = planned(gated, promised, node("n"), POOL)
    assert (answer.pods, answer.plan.placements, answer.plan.launches) == (0, (), ())


def test_a_pod_that_we_nominated_goes_there_again() -> None:
    """Of two nodes with room it keeps the one that was promised to it."""
    ours = node("z", metadata={"annotations": {"outrider.dev/decision": "d"}})
    answer = planned(pod(status={"nominatedNodeName": "z"}), node("a"), ours, POOL)
    assert answer.placed_on("pod") == "z"


def test_a_node_whose_nodeclaim_is_gone_is_a_place() -> None:
    """As in Karpenter, a Node of a NodePool without a NodeClaim serves while it is there."""
    assert planned(pod(), node("orphan", initialized=False), POOL).placed_on("pod") == "orphan"


def test_a_pool_is_named_by_its_label() -> None:
    """karpenter.sh/nodepool is a label that the NodePool gives its nodes, and pods may ask for."""
    pools = [nodepool("a", weight=9), nodepool("b")]
    assert planned(pod(selector={NODEPOOL: "b"}), *pools).launched() == ["b"]


def test_a_promise_outweighs_a_wish() -> None:
    """A pod for which a node is on its way goes there, though another has what it would prefer."""
    wish = preference(9, expression(ZONE, "In", ZONES[1]))
    flying = nodeclaim("flying", zone=ZONES[0])
    flying["metadata"]["annotations"] = {"outrider.dev/pods": "default/pod"}
    answer = planned(pod(preferred=[wish]), flying, node("n", zone=ZONES[1]), POOL)
    assert answer.placed_on("pod") == "flying"
