"""Parity F: device claims (dynamic resource allocation, karpenter-semantics.md F91, F125).

Karpenter v1.14 leaves pods with claims out by default; v1.15 plans for NVIDIA GPUs and EFA behind a
gate. The rows are what the Kubernetes documentation promises of resource.k8s.io/v1.
"""

from __future__ import annotations

from tests.support.builders import Json, catalog, instance_type, node, nodeclaim, pod
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
from tests.support.expect import Planned, planned

LARGE = f'device.capacity["{DRIVER}"].memory.compareTo(quantity("40Gi")) >= 0'
MODEL_B = f'device.attributes["{DRIVER}"].model == "b"'
GOODS = catalog(
    instance_type("plain", price=0.1),
    instance_type("a.one", devices=[publishing(1, {"memory": "16Gi"}, model="a")]),
    instance_type("a.four", price=3.5, devices=[publishing(4, {"memory": "16Gi"}, model="a")]),
    instance_type("b.two", price=3.0, devices=[publishing(2, {"memory": "80Gi"}, model="b")]),
)
TWO_DEVICES = resource_slice("slice", device("d0", model="a"), device("d1", model="a"))


def claimed(*requests: Json, constraints: tuple[Json, ...] = ()) -> Planned:
    """Plan one pod whose claim has *requests*."""
    return planned(
        device_class(),
        claim_template("t", *requests, constraints=constraints),
        pod(spec=claiming(template="t")),
        catalog=GOODS,
    )


def test_exact_count() -> None:
    """201: better than Karpenter, a claim for a count of devices gets a type that publishes so
    many; the cheapest first, those without left off."""
    assert claimed(request()).types("pod") == {"a.one", "a.four", "b.two"}
    assert claimed(request(count=3)).types("pod") == {"a.four"}


def test_devices_are_counted_once() -> None:
    """202: better than Karpenter, pods share a node as far as its devices go."""
    pods = [pod(f"p{place}", spec=claiming(template="t")) for place in range(6)]
    answer = planned(device_class(), claim_template("t"), *pods, catalog=GOODS, strategy="cost")
    assert sorted(len(launch.pods) for launch in answer.plan.launches) == [1, 1, 4]


def test_selectors() -> None:
    """203: better than Karpenter, the CEL selectors of class and request choose among devices, by
    attributes and capacity."""
    assert claimed(request("r", LARGE)).types("pod") == {"b.two"}
    assert claimed(request("r", LARGE), request("s", 'device.driver != "x"')).types("pod") == {
        "b.two"
    }
    assert claimed(request("r", LARGE, count=2), request("s")).rejected() == {
        "pod": {"DynamicResources"}
    }


def test_all_or_nothing() -> None:
    """204: better than Karpenter, a claim of which one request cannot be had is not begun; the
    reason says which devices are missing, and how many there are."""
    answer = claimed(request("many", count=5))
    assert answer.rejected() == {"pod": {"DynamicResources"}}
    assert answer.reason("pod") == (
        "ResourceClaimTemplate t (request many of class gpu): needs 5 matching devices;"
        " the largest allowed type, a.four, has 4"
    )


def test_existing_devices() -> None:
    """205: better than Karpenter, devices of an existing node are those of its complete
    ResourceSlices less what allocated claims hold."""
    pods = [pod(name, spec=claiming(template="t")) for name in ("p", "q")]
    scene = (device_class(), claim_template("t"), node(), TWO_DEVICES, *pods)
    both = planned(*scene, catalog=GOODS)
    assert [both.placed_on(name) for name in ("p", "q")] == ["node", "node"]
    one = planned(*scene, resource_claim("held", allocated=["d0"]), catalog=GOODS)
    assert one.placed_on("p") == "node"
    assert one.placed_on("q") != "node"


def test_administrators_hold_nothing() -> None:
    """206: better than Karpenter, an allocation with admin access holds no device, and a request
    with it takes none."""
    held = resource_claim("watch", allocated=["d0", "d1"], admin=True)
    scene = (device_class(), claim_template("t"), node(), TWO_DEVICES)
    answer = planned(*scene, held, pod(spec=claiming(template="t")), catalog=GOODS)
    assert answer.placed_on("pod") == "node"
    busy = resource_claim("busy", allocated=["d0", "d1"])
    watching = claim_template("w", request("all", count=2, adminAccess=True))
    answer = planned(*scene, busy, watching, pod(spec=claiming(template="w")), catalog=GOODS)
    assert answer.placed_on("pod") == "node"


def test_in_flight() -> None:
    """207: better than Karpenter, a NodeClaim in flight has the devices that its type will
    publish."""
    answer = planned(
        device_class(),
        claim_template("t", request(count=2)),
        nodeclaim("flying", instance_type="b.two"),
        pod("p", spec=claiming(template="t")),
        pod("q", spec=claiming(template="t")),
        catalog=GOODS,
    )
    assert answer.placed_on("p") == "flying"
    assert answer.placed_on("q") != "flying"


def test_all_devices() -> None:
    """208: better than Karpenter, a request for all devices has its kind to itself."""
    every = {
        "name": "all",
        "exactly": {"deviceClassName": "gpu", "allocationMode": "All"},
    }
    answer = planned(
        device_class(),
        claim_template("every", every),
        claim_template("t"),
        pod("p", spec=claiming(template="every")),
        pod("q", spec=claiming(template="t")),
        catalog=GOODS,
    )
    assert len(answer.plan.launches) == 2


def test_first_available() -> None:
    """209: better than Karpenter, of alternatives in a request the first that can be had wins."""
    answer = claimed(first_of("r", request("big", LARGE), request("small")))
    assert answer.types("pod") == {"b.two"}
    answer = claimed(first_of("r", request("big", LARGE, count=9), request("small", count=3)))
    assert answer.types("pod") == {"a.four"}


def test_shared_claim() -> None:
    """210: better than Karpenter, pods that share a claim share a node, and its devices are
    counted once."""
    answer = planned(
        device_class(),
        resource_claim("common", request(count=2)),
        pod("p", spec=claiming("common")),
        pod("q", spec=claiming("common")),
        catalog=GOODS,
    )
    assert [len(launch.pods) for launch in answer.plan.launches] == [2]
    assert answer.types("p") == {"a.four", "b.two"}


def test_allocated_claim() -> None:
    """211: better than Karpenter, a pod goes where its claim is allocated already, and nowhere
    else."""
    allocated = resource_claim("mine", allocated=["d0"])
    answer = planned(device_class(), node(), allocated, pod(spec=claiming("mine")), catalog=GOODS)
    assert answer.placed_on("pod") == "node"
    full = planned(
        device_class(), node(cpu="1"), allocated, pod(cpu="2", spec=claiming("mine")), catalog=GOODS
    )
    assert full.rejected() == {"pod": {"DynamicResources"}}
    assert "allocated where no node has room" in full.reason("pod")


def test_match_attribute() -> None:
    """212: better than Karpenter, devices that a constraint wants to agree on an attribute are
    counted by its values; a type of which no value has enough is left off."""
    mixed = catalog(
        instance_type("pair", devices=[publishing(2, model="a")]),
        instance_type("odd", devices=[publishing(1, model="a"), publishing(1, model="b")]),
        instance_type("both", devices=[publishing(2, model="a"), publishing(3, model="b")]),
    )
    scene = (
        device_class(),
        claim_template("t", request(count=2), constraints=[together(f"{DRIVER}/model")]),
    )
    answer = planned(*scene, pod(spec=claiming(template="t")), catalog=mixed)
    assert answer.types("pod") == {"pair", "both"}
    pods = [pod(name, spec=claiming(template="t")) for name in "pqr"]
    answer = planned(*scene, *pods, catalog=catalog(mixed["instanceTypes"][2]))
    assert sorted(len(launch.pods) for launch in answer.plan.launches) == [1, 2]


def test_device_taints() -> None:
    """213: better than Karpenter, a tainted device is given only to requests that tolerate it."""
    sick = device("d0", model="a")
    sick["taints"] = [{"key": "health", "value": "bad", "effect": "NoSchedule"}]
    scene = (device_class(), node(), resource_slice("slice", sick))
    answer = planned(*scene, claim_template("t"), pod(spec=claiming(template="t")), catalog=GOODS)
    assert answer.placed_on("pod") != "node"
    brave = request(tolerations=[{"key": "health", "operator": "Exists"}])
    answer = planned(
        *scene, claim_template("t", brave), pod(spec=claiming(template="t")), catalog=GOODS
    )
    assert answer.placed_on("pod") == "node"


def test_extended_resource_of_a_class() -> None:
    """214: better than Karpenter, an extended resource that only a DeviceClass serves is a claim,
    by its extendedResourceName or by `deviceclass.resource.kubernetes.io/`."""
    for name in ("example.com/gpu", "deviceclass.resource.kubernetes.io/gpu"):
        answer = planned(
            device_class(extendedResourceName="example.com/gpu"),
            pod(requests={name: "2"}),
            catalog=GOODS,
        )
        assert answer.types("pod") == {"a.four", "b.two"}


def test_what_cannot_be_judged() -> None:
    """215: better than Karpenter, a claim that cannot be judged leaves its pod out with code
    DynamicResources and says why; it is never guessed."""
    cases = {
        "does not compile": request("r", "(("),
        "no such member": request("r", f'device.attributes["{DRIVER}"].nothing == 1'),
        "not boolean": request("r", "device.driver"),
        "share of a device's capacity": request("r", capacity={"requests": {"memory": "1Gi"}}),
        "DeviceClass nix does not exist": request("r", of="nix"),
    }
    for words, asked in cases.items():
        answer = claimed(asked)
        assert answer.rejected() == {"pod": {"DynamicResources"}}, words
        assert words in answer.reason("pod")
