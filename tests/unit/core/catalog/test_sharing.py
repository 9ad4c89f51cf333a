"""Shared GPUs: what `outrider.dev/gpu-sharing` on a node class makes of a type's GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.apis import gpu_sharing, manifest, nodeclass
from outrider.apis.gpu_sharing import SPLITS
from outrider.core.catalog import codec
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.capacity import derive, derive_all
from outrider.core.catalog.facts import ClusterFacts
from outrider.errors import InvalidManifest
from tests.support.builders import GPU, catalog, instance_type, nodepool, pod
from tests.support.builders import nodeclass as document
from tests.support.expect import planned

FACTS = ClusterFacts()


def sharing(text: str) -> dict[str, Any]:
    """Return an EC2NodeClass whose nodes share their GPUs as *text* says."""
    whole = document()
    whole["metadata"]["annotations"] = {"outrider.dev/gpu-sharing": text}
    return whole


def devices(name: str, text: str) -> dict[str, int]:
    """Return the NVIDIA devices of a bundled type under *text*."""
    kind = bundled().get(name)
    assert kind is not None
    capacity = derive(kind, nodeclass.parse(sharing(text)), FACTS).capacity
    return {key: amount for key, amount in capacity.items() if key.startswith("nvidia.com/")}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("g6.xlarge", "time-slicing=4", {GPU: 4}),
        ("g6.12xlarge", "mps=2", {GPU: 8}),
        ("g6.xlarge", "time-slicing=4,renamed", {"nvidia.com/gpu.shared": 4}),
        ("g6f.large", "time-slicing=2", {GPU: 2}),
        ("p4d.24xlarge", "mig=1g.5gb", {GPU: 56}),
        ("p4d.24xlarge", "mig=1g.10gb", {GPU: 32}),
        ("p4de.24xlarge", "mig=1g.10gb", {GPU: 56}),
        ("p5.4xlarge", "mig=3g.40gb", {GPU: 2}),
        ("p5.4xlarge", "mig=1g.10gb,time-slicing=3", {GPU: 21}),
        ("p5en.48xlarge", "mig=1g.18gb", {GPU: 56}),
        ("p6-b200.48xlarge", "mig=2g.45gb", {GPU: 24}),
        ("p6-b300.48xlarge", "mig=7g.269gb", {GPU: 8}),
        ("g7e.2xlarge", "mig=1g.24gb", {GPU: 4}),
        (
            "p5.48xlarge",
            "mig=1g.10gb*2+2g.20gb*1+3g.40gb*1",
            {
                "nvidia.com/mig-1g.10gb": 16,
                "nvidia.com/mig-2g.20gb": 8,
                "nvidia.com/mig-3g.40gb": 8,
            },
        ),
        ("g6.xlarge", "mig=1g.10gb", {}),
        ("p4d.24xlarge", "mig=1g.18gb", {}),
        ("p4d.24xlarge", "mig=3g.40gb*1+1g.10gb*4", {}),
    ],
)
def test_devices(name: str, text: str, expected: dict[str, int]) -> None:
    """Replicas multiply, profiles split by NVIDIA's table, and what cannot be split is nothing."""
    assert devices(name, text) == expected


def test_a_class_without_the_word_shares_nothing() -> None:
    """Without the annotation a GPU is a GPU, and types without GPUs never change."""
    plain = nodeclass.parse(document())
    shared = nodeclass.parse(sharing("time-slicing=4"))
    types = bundled().instance_types
    for one, other in zip(
        derive_all(types, plain, FACTS), derive_all(types, shared, FACTS), strict=True
    ):
        if GPU not in one.capacity:
            assert one.capacity == other.capacity
        else:
            assert other.capacity == {**one.capacity, GPU: 4 * one.capacity[GPU]}


def test_a_catalogue_written_by_hand_is_shared_too() -> None:
    """Stated devices are multiplied, and split by the labels that name the model and its memory."""
    named = {
        "karpenter.k8s.aws/instance-gpu-name": "h100",
        "karpenter.k8s.aws/instance-gpu-memory": "81920",
    }
    goods = codec.read(catalog(instance_type("a", gpu=2, labels=named), instance_type("b", gpu=2)))
    sliced = nodeclass.parse(sharing("time-slicing=3"))
    split = nodeclass.parse(sharing("mig=1g.10gb"))
    kinds = {kind.name: kind for kind in goods.instance_types}
    assert derive(kinds["b"], sliced, FACTS).capacity[GPU] == 6
    assert derive(kinds["a"], split, FACTS).capacity[GPU] == 14
    assert GPU not in derive(kinds["b"], split, FACTS).capacity


def test_pods_are_packed_onto_shares() -> None:
    """Four pods with a GPU each share the one GPU of a node whose class slices it in four."""
    pods = [pod(f"p{index}", gpu=1) for index in range(4)]
    goods = catalog(instance_type("g.one", cpu="8", gpu=1))
    shared = planned(*pods, nodepool(), sharing("time-slicing=4"), catalog=goods)
    alone = planned(*pods, nodepool(), document(), catalog=goods)
    assert (len(shared.launched()), len(alone.launched())) == (1, 4)


def test_pods_ask_for_mixed_profiles_by_name() -> None:
    """With the mixed strategy a pod gets the profile that it names, and a whole GPU no more."""
    named = {
        "karpenter.k8s.aws/instance-gpu-name": "h100",
        "karpenter.k8s.aws/instance-gpu-memory": "81920",
    }
    goods = catalog(instance_type("p", cpu="96", gpu=8, labels=named))
    split = sharing("mig=1g.10gb*4+3g.40gb*1")
    small = pod("small", requests={"nvidia.com/mig-1g.10gb": "32"})
    whole = pod("whole", gpu=1)
    answer = planned(small, whole, nodepool(), split, catalog=goods)
    assert answer.types("small") == {"p"}
    assert answer.rejected() == {"whole": {"InsufficientResources"}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not known"),
        ("4", "'4' is not known"),
        ("time-slicing=0", "1 to 128"),
        ("time-slicing=many", "1 to 128"),
        ("time-slicing=2,mps=2", "exclude"),
        ("time-slicing=2,time-slicing=3", "twice"),
        ("renamed", "goes with"),
        ("mig=1g.99gb", "no GPU of EC2"),
        ("mig=all", "no MIG profile"),
        ("mig=1g.10gb*8", "no GPU of EC2"),
        ("mig=3g.40gb*2+1g.10gb*1", "no GPU of EC2"),
        ("mig=1g.10gb*1+1g.10gb*2", "names a MIG profile twice"),
        ("mig=1g.10gb*2,time-slicing=2", "not shared further"),
    ],
)
def test_nonsense_is_refused(text: str, why: str) -> None:
    """A word that makes no sense is an error that names the class and the annotation."""
    with pytest.raises(InvalidManifest, match=why) as refused:
        manifest.parse(sharing(text))
    assert refused.value.thing == "EC2NodeClass default"
    assert refused.value.path == "metadata.annotations[outrider.dev/gpu-sharing]"


def test_every_profile_fits_its_gpu() -> None:
    """The table agrees with itself: each profile as often as it says, and not once more."""
    for splits in SPLITS.values():
        for name, profile in splits.profiles.items():
            assert splits.holds([(name, profile.instances)])
            assert not splits.holds([(name, profile.instances + 1)])


def test_the_bundled_gpus_are_in_the_table() -> None:
    """Every GPU that EC2 sells with MIG is found under EC2's own name and memory."""
    found = {
        gpu_sharing.splits_of(gpu.name.lower().replace(" ", "-"), gpu.memory_mib) is not None
        for kind in bundled().instance_types
        if kind.name.startswith(("p4", "p5", "p6", "g7e")) and kind.ec2
        for gpu in kind.ec2.gpus
    }
    assert found == {True}
