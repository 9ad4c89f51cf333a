"""The small parts of a launch: volumes, images, marks, NodeClaims, node classes' conditions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from outrider.apis import labels, manifest
from outrider.apis.nodeclaim import NodeClaim
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.capacity import derive
from outrider.core.catalog.facts import ClusterFacts
from outrider.core.catalog.family import Family
from outrider.core.launch import blockdevices, failure, images, nodeclaim, readiness
from outrider.core.launch.errand import Errand, assigned, errand, surplus
from outrider.core.launch.failure import marks
from outrider.core.launch.fleet import Order, Pool, Subnet, requests
from outrider.core.launch.readiness import Found
from outrider.core.promises import planned_pods
from outrider.core.records import FleetError, FleetResult, Instance
from outrider.core.scheduling.result import Choice
from outrider.core.seeding import Seed, State
from tests.support.launches import ZONES, around, launch, nodeclass, orders

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
SEED = Seed(
    "k",
    "amd64",
    "Bottlerocket",
    {"a:1": "sha256:1"},
    snapshot_id="snap-1",
    volume_gib=60,
    state=State.READY.value,
)
POOLS = (
    Pool("g6.xlarge", ZONES[0], "subnet-a", 0.3),
    Pool("g5.xlarge", ZONES[0], "subnet-a", 0.4),
    Pool("g6.xlarge", ZONES[1], "subnet-b", 0.3),
    Pool("m7i.large", ZONES[1], "subnet-b", 0.1),
)
SUBNETS = tuple(Subnet(f"subnet-{zone[-1]}", zone) for zone in ZONES)


def _instance(name: str, kind: str = "g6.xlarge", zone: str = ZONES[0]) -> Instance:
    return Instance(name, kind, zone, "on-demand", "pending", NOW, image_id="ami-1")


def test_default_volumes_follow_the_family() -> None:
    """AL2023 has one volume, Bottlerocket two, a custom AMI none of ours (F45)."""
    one = blockdevices.volumes(nodeclass(), Family.AL2023, None).mappings
    assert [(entry["DeviceName"], entry["Ebs"]["VolumeSize"]) for entry in one] == [
        ("/dev/xvda", 20)
    ]
    two = blockdevices.volumes(nodeclass(), Family.BOTTLEROCKET, None).mappings
    assert [(entry["DeviceName"], entry["Ebs"]["VolumeSize"]) for entry in two] == [
        ("/dev/xvda", 4),
        ("/dev/xvdb", 20),
    ]
    assert blockdevices.volumes(nodeclass(), Family.CUSTOM, SEED).mappings == ()


def test_a_seed_goes_on_the_data_volume() -> None:
    """Bottlerocket's data volume takes the snapshot, at least as large; a user's snapshot stays."""
    given_ = blockdevices.volumes(nodeclass(), Family.BOTTLEROCKET, SEED)
    assert given_.seed_device == "/dev/xvdb"
    assert given_.mappings[1]["Ebs"]["SnapshotId"] == "snap-1"
    assert given_.mappings[1]["Ebs"]["VolumeSize"] == 60
    mine = [
        {"deviceName": "/dev/xvda", "ebs": {"volumeSize": "4Gi"}},
        {"deviceName": "/dev/xvdb", "ebs": {"volumeSize": "100Gi", "snapshotID": "snap-9"}},
    ]
    kept = blockdevices.volumes(nodeclass(blockDeviceMappings=mine), Family.BOTTLEROCKET, SEED)
    assert kept.seed_device == ""
    assert kept.mappings[1]["Ebs"]["SnapshotId"] == "snap-9"


def test_a_seed_finds_a_free_device() -> None:
    """On AL2023 the seed is a volume of its own, on the first device that nobody uses."""
    mine = [
        {"deviceName": "/dev/xvda", "ebs": {"volumeSize": "100Gi"}},
        {"deviceName": "/dev/xvdb", "ebs": {"volumeSize": "500G"}},
    ]
    given_ = blockdevices.volumes(nodeclass(blockDeviceMappings=mine), Family.AL2023, SEED)
    assert given_.seed_device == "/dev/xvdc"
    assert [entry["Ebs"]["VolumeSize"] for entry in given_.mappings] == [100, 466, 60]


@pytest.mark.parametrize(
    ("name", "place"),
    [("g6.xlarge", 1), ("g5g.xlarge", 2), ("trn1.2xlarge", 3), ("m7i.large", 4), ("m7g.large", 5)],
)
def test_each_type_boots_its_variant(name: str, place: int) -> None:
    """NVIDIA, Neuron and plain types of both architectures get the AMI made for them (F53)."""
    kind = bundled().get(name)
    assert kind is not None
    chosen = images.choose(nodeclass().status.amis, kind.requirements.labels())
    assert chosen == f"ami-{place:08x}"


def test_aliases_name_ssm_parameters() -> None:
    """latest and pinned versions of both families name the documented parameters."""
    latest = images.parameters(nodeclass(alias="al2023@latest"), "1.33")
    assert latest[3].path == (
        "/aws/service/eks/optimized-ami/1.33/amazon-linux-2023/x86_64/standard/recommended/image_id"
    )
    pinned = images.parameters(nodeclass(alias="al2023@v20260301"), "1.33")
    assert pinned[0].path.endswith(
        "/x86_64/nvidia/amazon-eks-node-al2023-x86_64-nvidia-1.33-v20260301/image_id"
    )
    bottlerocket = images.parameters(nodeclass(alias="bottlerocket@v1.46.0"), "1.33")
    assert [one.path for one in bottlerocket][::3] == [
        "/aws/service/bottlerocket/aws-k8s-1.33-nvidia/x86_64/1.46.0/image_id",
        "/aws/service/bottlerocket/aws-k8s-1.33/arm64/1.46.0/image_id",
    ]
    validated = images.parameters(nodeclass(alias="bottlerocket-fips@latest"), "1.33")
    assert [one.path for one in validated][::3] == [
        "/aws/service/bottlerocket/aws-k8s-1.33-nvidia-fips/x86_64/latest/image_id",
        "/aws/service/bottlerocket/aws-k8s-1.33-fips/arm64/latest/image_id",
    ]


def _error(scope: str, code: str = "X", **changes: Any) -> FleetError:
    given_ = {"instance_type": "g6.xlarge", "zone": ZONES[0], "capacity_type": "spot"}
    return FleetError(code, "no", scope, **{**given_, **changes})


def test_an_offering_is_one_pool() -> None:
    """No capacity for one offering shuts that offering; for a whole call, every pool it named."""
    assert marks([_error("offering")], POOLS, SUBNETS) == (("g6.xlarge", ZONES[0], "spot"),)
    whole = marks([_error("offering", instance_type="", zone="")], POOLS, SUBNETS)
    assert set(whole) == {(pool.instance_type, pool.zone, "spot") for pool in POOLS}


def test_a_quota_is_its_family() -> None:
    """A used-up quota shuts every type of its family in every zone, and no other family."""
    assert marks([_error("account")], POOLS, SUBNETS) == (
        ("g5.xlarge", "*", "spot"),
        ("g6.xlarge", "*", "spot"),
    )
    assert failure.quota_family("gr6.4xlarge") == failure.quota_family("g6.xlarge")
    assert failure.quota_family("m7i.large") == "standard"
    assert failure.quota_family("p5.48xlarge") == "p"


def test_a_zone_is_shut_with_its_last_subnet() -> None:
    """A subnet without addresses is left out; the zone only when all its subnets are."""
    error = _error("subnet", subnet_id="subnet-a")
    assert marks([error], POOLS, SUBNETS) == (
        ("subnet:subnet-a", "*", "*"),
        ("*", ZONES[0], "*"),
    )
    more = (*SUBNETS, Subnet("subnet-a2", ZONES[0]))
    found = marks([error], POOLS, more)
    assert found == (("subnet:subnet-a", "*", "*"),)
    assert failure.shut_subnets(dict.fromkeys(found)) == {"subnet-a"}


def test_no_spot_role_is_no_spot() -> None:
    """Without the service-linked role no Spot instance can be had at all."""
    code = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
    assert marks([_error("permission", code)], POOLS, SUBNETS) == (("*", "*", "spot"),)
    assert marks([_error("request"), _error("region")], POOLS, SUBNETS) == ()


def _errand(*launches: Any) -> Errand:
    ordered = orders(*launches)
    request = requests(ordered, around()).requests[0]
    documents = [nodeclaim.manifest(order, "d1", None, nodeclass()) for order in ordered]
    return errand(request, ordered, documents, "d1")


def test_an_errand_survives_the_ledger() -> None:
    """What is written as JSON is read back the same."""
    work = _errand(launch("a"), launch("b"))
    assert Errand.read(work.to_json()) == work
    assert work.claims == ("claim-0", "claim-1")


def test_instances_are_handed_out_alike() -> None:
    """Any order of the answer gives the same instance to the same NodeClaim; surplus is named."""
    work = _errand(launch("a"), launch("b"))
    found = [_instance(name) for name in ("i-3", "i-1", "i-2")]
    first = assigned(work, FleetResult("f", tuple(found), ()))
    again = assigned(work, FleetResult("f", tuple(reversed(found)), ()))
    assert first == again
    assert [one.id for one in first.values()] == ["i-1", "i-2"]
    assert surplus(work, FleetResult("f", tuple(found), ())) == ("i-3",)
    assert {one.capacity_type for one in first.values()} == {"spot"}


def test_a_reservation_is_known_from_the_request() -> None:
    """EC2 answers `on-demand`; what was bought is the reservation that the request targeted."""
    work = _errand(launch(choices=(Choice("g6.xlarge", ZONES[0], "reserved", 0, "", "cr-1"),)))
    got = assigned(work, FleetResult("f", (_instance("i-1"),), ()))["claim-0"]
    assert (got.capacity_type, got.reservation_id) == ("reserved", "cr-1")


def test_a_nodeclaim_is_one_that_karpenter_reads() -> None:
    """The manifest parses, and says what a later invocation needs."""
    made = launch(expire_after="168h", termination_grace_period="5m")
    document = nodeclaim.manifest(Order("gpu-abcde", made), "d1", None, nodeclass())
    claim = manifest.parse(document)
    assert isinstance(claim, NodeClaim)
    assert claim.metadata.finalizers == (labels.TERMINATION_FINALIZER,)
    assert claim.metadata.annotations[labels.DECISION] == "d1"
    assert planned_pods(claim.metadata.annotations) == made.pods
    assert claim.spec.termination_grace_period == "5m"
    keys = {entry.key for entry in claim.spec.requirements}
    assert {labels.INSTANCE_TYPE, labels.ZONE, labels.CAPACITY_TYPE} <= keys
    assert claim.taints == made.taints


def test_names_repeat_with_the_decision() -> None:
    """A repeated invocation finds the NodeClaims that it made before."""
    assert nodeclaim.name("gpu", "d1", 0) == nodeclaim.name("gpu", "d1", 0)
    assert nodeclaim.name("gpu", "d1", 0) != nodeclaim.name("gpu", "d1", 1)
    assert len(nodeclaim.name("p" * 80, "d1", 0)) <= 63


def test_a_launched_claim_knows_its_machine() -> None:
    """Labels, capacity and allocatable are the chosen type's, pods as the kubelet was told."""
    bare = bundled().get("g6.xlarge")
    assert bare is not None
    kind = derive(bare, nodeclass(), ClusterFacts())
    instance = _instance("i-1")
    found = nodeclaim.launched_labels(instance, kind)
    assert found[labels.INSTANCE_TYPE] == "g6.xlarge"
    assert found[labels.REGION] == "us-east-1"
    assert found[labels.ZONE_ID] == "use1-az6"
    status = nodeclaim.launched_status(instance, kind, 40, NOW)
    assert status["providerID"] == "aws:///us-east-1a/i-1"
    assert status["capacity"]["pods"] == "40"
    assert status["capacity"]["nvidia.com/gpu"] == "1"
    held = {entry["type"]: entry["status"] for entry in status["conditions"]}
    assert held == {
        "Launched": "True",
        "Registered": "Unknown",
        "Initialized": "Unknown",
        "Ready": "Unknown",
    }


def test_conditions_keep_their_time() -> None:
    """A condition that did not change keeps its transition time."""
    later = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    old = [nodeclaim.condition("Ready", holds=True, reason="Ready", now=NOW)]
    same = nodeclaim.conditions(
        [nodeclaim.condition("Ready", holds=True, reason="Ready", now=later)], old
    )
    other = nodeclaim.conditions(
        [nodeclaim.condition("Ready", holds=False, reason="No", now=later)], old
    )
    assert same[0]["lastTransitionTime"] == "2026-03-02T14:00:00Z"
    assert other[0]["lastTransitionTime"] == "2026-03-02T15:00:00Z"


FOUND = Found(
    subnets=SUBNETS,
    security_groups=(("sg-1", "nodes"),),
    amis=({"id": "ami-1", "requirements": []},),
    instance_profile="p",
    role_arn="arn:aws:iam::1:role/node",
)


@pytest.mark.parametrize(
    ("changes", "spec", "kind", "said"),
    [
        ({"subnets": ()}, {}, "SubnetsReady", "karpenter.sh/discovery"),
        ({"security_groups": ()}, {}, "SecurityGroupsReady", "select no security group"),
        ({"amis": ()}, {}, "AMIsReady", "al2023@v20260301"),
        ({"instance_profile": None}, {}, "InstanceProfileReady", "role node has no instance"),
        ({"refused": {"AMIsReady": "GetParameters: no"}}, {}, "AMIsReady", "GetParameters"),
        ({}, {"amiFamily": "Windows2022"}, "ValidationSucceeded", "AL2023, Bottlerocket, Custom"),
    ],
)
def test_a_condition_says_what_to_fix(
    changes: dict[str, Any], spec: dict[str, Any], kind: str, said: str
) -> None:
    """Each thing that is missing is one condition, in the manifest's own words."""
    from dataclasses import replace

    if "amiFamily" in spec:
        spec = {**spec, "amiSelectorTerms": [{"alias": "windows2022@latest"}]}
    status = readiness.status(nodeclass(**spec), replace(FOUND, **changes), (), NOW)
    failing = {
        entry["type"]: entry["message"]
        for entry in status["conditions"]
        if entry["status"] == "False"
    }
    assert set(failing) == {kind, "Ready"}
    assert said in failing[kind]
    assert said in failing["Ready"]
