"""Device claims in a plan: what the parity rows do not show."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from outrider.apis import manifest
from outrider.core.catalog import codec
from outrider.core.clusterstate import ClusterState
from outrider.core.scheduling.devices.hall import components, sets
from outrider.core.scheduling.policy import Policy
from outrider.core.scheduling.whatif import WhatIf
from tests.support.builders import (
    CAPACITY_TYPE,
    INSTANCE_TYPE,
    ZONES,
    Json,
    catalog,
    expression,
    instance_type,
    node,
    nodeclaim,
    nodeclass,
    nodepool,
    pod,
    term,
)
from tests.support.devices import (
    DRIVER,
    claim_template,
    claiming,
    device,
    device_class,
    first_of,
    publishing,
    request,
    resource_claim,
    resource_slice,
    together,
)
from tests.support.expect import OPEN_POOL, Planned, planned

MODEL = f'device.attributes["{DRIVER}"].model'
GOODS = catalog(
    instance_type("plain", price=0.1),
    instance_type("one", devices=[publishing(1, model="a")]),
    instance_type("four", cpu="16", price=3.5, devices=[publishing(4, model="a")]),
)
EVERY: Json = {"name": "all", "exactly": {"deviceClassName": "gpu", "allocationMode": "All"}}


def plan(*documents: Json, **more: Any) -> Planned:
    """Plan *documents* with the class and the claim template that most tests use."""
    given = [device_class(), *documents]
    if not any(item["kind"] == "ResourceClaimTemplate" for item in documents):
        given.append(claim_template("t"))
    return planned(*given, **{"catalog": GOODS, **more})


def user(name: str = "pod", **more: Any) -> Json:
    """Return a pod whose claim is made from the template."""
    return pod(name, spec=claiming(template="t"), **more)


def test_halls_condition_in_numbers() -> None:
    """Sets of kinds that compete bind together; what another set implies is left out."""
    narrow, wide = frozenset({0}), frozenset({0, 1})
    supplies, counts = [[narrow, wide]], [[2, 3]]
    assert components(2, supplies) == [frozenset({0, 1})]
    found = {tuple(sorted(item.kinds)): item.devices for item in sets(wide, supplies, counts)}
    assert found == {(0,): (2,), (0, 1): (5,)}
    apart = [[frozenset({0}), frozenset({1})]]
    assert components(2, apart) == [frozenset({0}), frozenset({1})]


def test_kinds_that_overlap_without_end() -> None:
    """More than eight kinds that compete for the same devices are not judged."""
    devices = [device(f"d{slot}", slot=slot) for slot in range(10)]
    asked = [
        request(f"r{slot}", f'device.attributes["{DRIVER}"].slot >= {slot}') for slot in range(10)
    ]
    answer = plan(
        node(),
        resource_slice("slice", *devices),
        claim_template("t", *asked),
        user(),
    )
    assert answer.rejected() == {"pod": {"DynamicResources"}}
    assert "more than 8 kinds of devices overlap" in answer.reason("pod")


def test_a_missing_claim_or_template() -> None:
    """A claim that does not exist, or is being deleted, is named."""
    assert plan(pod(spec=claiming("nix"))).reason("pod") == "ResourceClaim nix does not exist"
    answer = plan(pod(spec=claiming(template="nix")))
    assert answer.reason("pod") == "ResourceClaimTemplate nix does not exist"
    going = resource_claim("c", metadata={"deletionTimestamp": "2026-11-23T11:00:00Z"})
    assert plan(going, pod(spec=claiming("c"))).reason("pod") == (
        "ResourceClaim c is being deleted"
    )


def test_the_claim_made_from_a_template_wins() -> None:
    """Once the claim of a template exists it is what the pod asks, not the template."""
    made = resource_claim("pod-made", request(count=4))
    status = {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "pod-made"}]}
    answer = plan(made, user(status=status))
    assert answer.types("pod") == {"four"}


def test_more_than_a_claim_holds() -> None:
    """A claim for more than 32 devices can never be allocated."""
    answer = plan(claim_template("t", request("a", count=20), request("b", count=13)), user())
    assert "33 devices are more than a claim holds" in answer.reason("pod")


def test_a_claim_that_is_reserved_to_the_limit() -> None:
    """A claim that 256 pods have reserved takes no other."""
    many = [f"user{number}" for number in range(256)]
    answer = plan(
        node(),
        resource_claim("c", allocated=["d0"], reserved=many),
        pod(spec=claiming("c")),
    )
    assert "reserved for 256 pods" in answer.reason("pod")


@pytest.mark.parametrize(
    ("asked", "constraints", "words"),
    [
        (request(capacity={"requests": {"memory": "1Gi"}}), (), "share of a device's capacity"),
        (request(), ({"distinctAttribute": "x.com/y"},), "a distinctAttribute constraint"),
        (
            {"name": "all", "exactly": {**EVERY["exactly"], "adminAccess": True}},
            (),
            "admin access to all devices",
        ),
    ],
)
def test_beyond_exact_counts(asked: Json, constraints: tuple[Json, ...], words: str) -> None:
    """What cannot be judged exactly is said, with claim and request."""
    answer = plan(claim_template("t", asked, constraints=constraints), user())
    assert answer.rejected() == {"pod": {"DynamicResources"}}
    assert words in answer.reason("pod")
    assert "cannot be judged" in answer.reason("pod")


def test_all_of_a_kind_and_some_of_it() -> None:
    """One pod that asks for all devices and for some of the same cannot be judged."""
    answer = plan(claim_template("t", EVERY, request("one")), user())
    assert "cannot be judged" in answer.reason("pod")


def test_all_devices_must_be_free() -> None:
    """A node on which one device is held, or a pool is incomplete, has not all of them to give."""
    scene = (node(), claim_template("t", EVERY), user())
    devices = (device("d0", model="a"), device("d1", model="a"))
    whole = plan(resource_slice("s", *devices), *scene)
    assert whole.placed_on("pod") == "node"
    held = resource_claim("held", allocated=["d1"])
    assert plan(resource_slice("s", *devices), held, *scene).placed_on("pod") != "node"
    assert plan(resource_slice("s", *devices, of=2), *scene).placed_on("pod") != "node"


def test_only_the_newest_generation_counts() -> None:
    """Slices of an older generation, and pools that are not complete, have no devices."""
    old = resource_slice("old", device("d0", model="a"), generation=1)
    new = resource_slice("new", device("d0", model="b"), generation=2)
    wants_a = claim_template("t", request("r", f'{MODEL} == "a"'))
    assert plan(node(), old, wants_a, user()).placed_on("pod") == "node"
    assert plan(node(), old, new, wants_a, user()).placed_on("pod") != "node"
    half = resource_slice("half", device("d0", model="a"), of=2)
    assert plan(node(), half, user()).placed_on("pod") != "node"
    twice = resource_slice("twice", device("d0", model="a"), device("d0", model="a"))
    assert plan(node(), twice, user()).placed_on("pod") != "node"


def test_devices_that_are_not_whole_are_left_alone() -> None:
    """Partitions and devices that several claims may share are not given out here."""
    for beyond in (
        {"consumesCounters": [{"counterSet": "c"}]},
        {"allowMultipleAllocations": True},
        {"bindingConditions": ["ready"]},
    ):
        part = {**device("d0", model="a"), **beyond}
        assert plan(node(), resource_slice("s", part), user()).placed_on("pod") != "node"
        answer = plan(node(), resource_slice("s", part), claim_template("t", EVERY), user())
        assert answer.placed_on("pod") != "node"


def test_devices_that_are_no_nodes_own() -> None:
    """Where a claim might be served by devices that several nodes reach, it cannot be judged."""
    network = resource_slice("net", device("d0", model="a"), node=None)
    answer = plan(network, user())
    assert answer.rejected() == {"pod": {"DynamicResources"}}
    assert "no node's own" in answer.reason("pod")


def test_a_node_that_joins_owes_its_devices() -> None:
    """Until a node is ready, and while pods it was launched for wait, its type says what it has."""
    joining = node("new", instance_type="four", initialized=False)
    assert plan(joining, user()).placed_on("pod") == "new"
    ready = node("new", instance_type="four")
    assert plan(ready, user()).placed_on("pod") != "new"
    launched = nodeclaim(
        "claim",
        instance_type="four",
        node_name="new",
        provider_id=f"aws:///{ZONES[0]}/i-new",
        metadata={
            "labels": {"karpenter.sh/nodepool": "default"},
            "annotations": {"outrider.dev/pods": "default/pod"},
        },
    )
    assert plan(ready, launched, user()).placed_on("pod") == "new"


def test_a_claim_in_flight_of_several_types() -> None:
    """A NodeClaim that may become several types has what each of them publishes."""
    flying = nodeclaim("flying")
    del flying["metadata"]["labels"][INSTANCE_TYPE]
    flying["spec"]["requirements"] = [expression(INSTANCE_TYPE, "In", "one", "four")]
    answer = plan(flying, user("p"), user("q"))
    assert answer.placed_on("p") == "flying"
    assert answer.placed_on("q") != "flying"


def test_the_leader_of_a_shared_claim_has_no_place() -> None:
    """Pods that share a claim wait with the one that leads it."""
    shared = resource_claim("common", request(count=9))
    answer = plan(shared, pod("p", spec=claiming("common")), pod("q", spec=claiming("common")))
    assert answer.rejected() == {"p": {"DynamicResources"}, "q": {"DynamicResources"}}


def test_a_shared_claim_beside_affinity() -> None:
    """A pod that shares a claim and must be near others too cannot be judged."""
    near = [term(CAPACITY_TYPE, {"app": "a"})]
    answer = plan(
        resource_claim("common"),
        pod("p", labels={"app": "a"}, spec=claiming("common")),
        pod("q", near=near, spec=claiming("common")),
    )
    assert answer.placed_on("p") is not None
    assert "shared claim beside pod affinity" in answer.reason("q")


def test_pods_that_leave_bring_their_claims() -> None:
    """A pod on a node that is leaving asks for its devices anew: they are released with it."""
    leaving = node("old", instance_type="one")
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T11:00:00Z"
    made = resource_claim("made", allocated=["d0"], node="old", reserved=["pod"])
    running = pod(
        node="old",
        spec={**claiming(template="t"), "nodeName": "old"},
        status={"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "made"}]},
    )
    answer = plan(leaving, made, running)
    assert answer.types("pod") == {"one", "four"}
    named = pod(node="old", spec={**claiming("made"), "nodeName": "old"})
    assert plan(leaving, made, named).types("pod") == {"one", "four"}


def test_a_claim_whose_node_is_gone() -> None:
    """A claim allocated on a node that is gone is asked anew by its pods; one that another pod
    holds is not."""
    mine = pod(spec=claiming("made"))
    for users in ((), ("pod",)):
        made = resource_claim("made", allocated=["d0"], node="gone", reserved=users)
        assert plan(made, mine).types("pod") == {"one", "four"}
    held = resource_claim("made", allocated=["d0"], node="gone", reserved=["pod", "other"])
    assert plan(held, mine).rejected() == {"pod": {"DynamicResources"}}
    replaced = pod(
        spec=claiming(template="t"),
        status={"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "made"}]},
    )
    made = resource_claim("made", allocated=["d0"], node="gone", reserved=["pod"])
    assert plan(made, replaced).types("pod") == {"one", "four"}


def test_a_pool_whose_gpus_the_plugin_shares() -> None:
    """Where the node class says how the device plugin shares GPUs, claims find none."""
    shared = nodeclass()
    shared["metadata"]["annotations"] = {"outrider.dev/gpu-sharing": "time-slicing=4"}
    answer = plan(shared, nodepool(), user())
    assert answer.rejected() == {"pod": {"DynamicResources"}}


def test_requests_show_no_devices() -> None:
    """What a launch asks for in words of Kubernetes names no resource of the planner's own."""
    launch = plan(user()).launch_of("pod")
    assert launch is not None
    assert set(launch.requests) == {"cpu", "pods"}


def test_too_many_combinations() -> None:
    """More combinations of alternatives than are tried are refused."""
    choices = [first_of(f"r{n}", *(request(f"c{m}") for m in range(3))) for n in range(3)]
    answer = plan(claim_template("t", *choices), user())
    assert "27 combinations" in answer.reason("pod")


def test_an_alternative_that_fails_spoils_those_after_it() -> None:
    """Where an earlier alternative has no answer, kube-scheduler aborts: the next is no way out."""
    broken = request("first", f'device.attributes["{DRIVER}"].nothing == 1')
    answer = plan(claim_template("t", first_of("r", broken, request("second"))), user())
    assert answer.rejected() == {"pod": {"DynamicResources"}}
    never = request("first", "device.driver == 'nobody'")
    answer = plan(claim_template("t", first_of("r", never, request("second"))), user())
    assert answer.types("pod") == {"one", "four"}


def test_an_advertised_extended_resource_stays_one() -> None:
    """Where a device plugin, or an overlay, serves a resource, its DeviceClass is not asked."""
    goods = catalog(
        instance_type("plugged", gpu=2, price=5.0),
        instance_type("claimed", devices=[publishing(2, model="a")]),
    )
    answer = planned(device_class(extendedResourceName="nvidia.com/gpu"), pod(gpu=1), catalog=goods)
    assert answer.types("pod") == {"plugged"}


def test_agreement_on_what_cannot_be_known() -> None:
    """A constraint on an attribute that only the running node has is not judged; one device
    agrees with itself."""
    goods = catalog(
        instance_type("two", devices=[{**publishing(2, model="a"), "unknown": ["uuid"]}])
    )
    constraint = [together(f"{DRIVER}/uuid")]
    pair = claim_template("t", request(count=2), constraints=constraint)
    answer = plan(pair, user(), catalog=goods)
    assert "cannot be known here" in answer.reason("pod")
    single = claim_template("t", request(), constraints=constraint)
    assert plan(single, user(), catalog=goods).types("pod") == {"two"}


def test_the_order_of_documents_does_not_matter() -> None:
    """A plan is the same whatever the order of its documents, claims included."""
    documents = [
        device_class(),
        claim_template("t", request("r", f'{MODEL} == "a"')),
        claim_template("u", request(count=2)),
        *(pod(f"p{n}", spec=claiming(template="tu"[n % 2])) for n in range(6)),
    ]
    forth = planned(*documents, catalog=GOODS, strategy="cost").json
    back = planned(*reversed(documents), catalog=GOODS, strategy="cost").json
    assert forth == back


def moved(*more: Json) -> str | None:
    """Return where the pod of one node goes if that node goes, None where it cannot."""
    running = pod(node="n1", spec={**claiming("mine"), "nodeName": "n1"})
    documents = [
        OPEN_POOL,
        device_class(),
        node("n1"),
        node("n2"),
        resource_slice("s1", device("d0"), node="n1", pool="n1"),
        resource_slice("s2", device("d0"), node="n2", pool="n2"),
        resource_claim("mine", allocated=["d0"], node="n1", pool="n1", reserved=["pod"]),
        running,
        *more,
    ]
    state = ClusterState.of([read for item in documents if (read := manifest.parse(item))])
    asked = WhatIf(state, state.pods, (), codec.read(GOODS), Policy(strategy="first-fit"))
    answer = asked.without(["n1"], launching=False)
    return next((item.node for item in answer.placements), None)


def test_claims_move_with_their_pods() -> None:
    """Disruption moves a pod with a claim to a node whose devices are free, and to no other."""
    assert moved() == "n2"
    busy = resource_claim("busy", allocated=["d0"], node="n2", pool="n2", reserved=["other"])
    assert moved(busy) is None


def test_bundles_of_two_requests() -> None:
    """Two requests that must agree are counted by value; where others may take a part, not at all.

    On one node are two roots: one with a large and a small device, one with two small ones.
    """
    size = f'device.attributes["{DRIVER}"].size'
    roots = (
        device("d0", size="large", root="x"),
        device("d1", size="small", root="x"),
        device("d2", size="small", root="y"),
        device("d3", size="small", root="y"),
    )
    aligned = claim_template(
        "t",
        request("one", f'{size} == "large"'),
        request("two", f'{size} == "small"'),
        constraints=[together(f"{DRIVER}/root", "one", "two")],
    )
    scene = (node(), resource_slice("s", *roots), aligned)
    answer = plan(*scene, user("p"), user("q"))
    assert answer.placed_on("p") == "node"
    assert answer.rejected() == {"q": {"DynamicResources"}}
    small = claim_template("small", request("r", f'{size} == "small"'))
    beside = plan(*scene, small, user("p"), pod("q", spec=claiming(template="small")))
    assert beside.placed_on("q") == "node"
    assert "devices that agree" in beside.reason("p")


def test_plans_without_claims_import_no_cel() -> None:
    """The planner's import leaves the CEL library alone: the first claim pays for it."""
    code = "import sys, outrider.core.scheduling.plan; sys.exit('celpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
