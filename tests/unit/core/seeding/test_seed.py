"""Which seed serves a launch, what a new one replaces, how images and volumes are named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outrider.apis import manifest
from outrider.core.catalog.family import Family
from outrider.core.seeding import (
    Image,
    Seed,
    State,
    best_seed,
    moved,
    same_image,
    seed_key,
    superseded,
    volume_gib,
)
from outrider.core.seeding.images import canonical
from outrider.core.seeding.wishes import Mode, mode, obstacle

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
GB = 1000**3


def test_modes_are_read() -> None:
    """The annotation's words, and a list of images."""
    assert mode(None) == mode("  ") == (Mode.AUTO, ())
    assert mode("off") == (Mode.OFF, ())
    assert mode("a/b:1, c/d") == (Mode.LISTED, ("a/b:1", "c/d"))


@pytest.mark.parametrize(
    ("reference", "named", "same"),
    [
        ("host/ml/trainer:v1", "ml/trainer", True),
        ("host/ml/trainer:v1", "ml/trainer:v1", True),
        ("host/ml/trainer:v1", "ml/trainer:v2", False),
        ("host/ml/trainer:v1", "trainer", True),
        ("host/ml/mytrainer:v1", "trainer", False),
        ("host:5000/a@sha256:ab", "a@sha256:ab", True),
    ],
)
def test_names_of_images(reference: str, named: str, same: bool) -> None:
    """A listed name may leave the host and the tag off, never half a word."""
    assert same_image(reference, named) is same


@pytest.mark.parametrize(
    ("reference", "kept"),
    [
        ("nginx", ("docker.io/library/nginx", "latest")),
        ("nginx:1.2", ("docker.io/library/nginx", "1.2")),
        ("vllm/vllm-openai:v1", ("docker.io/vllm/vllm-openai", "v1")),
        ("localhost/a:1", ("localhost/a", "1")),
        ("host:5000/a/b:1", ("host:5000/a/b", "1")),
        ("host.io/a@sha256:ab", ("host.io/a", "")),
        ("host.io/a:1@sha256:ab", ("host.io/a", "")),
    ],
)
def test_images_are_kept_under_whole_names(reference: str, kept: tuple[str, str]) -> None:
    """A short name is kept as containerd keeps it, or no pod would find it."""
    assert canonical(reference) == kept


def _seed(key: str, images: dict[str, int], **changes: Any) -> Seed:
    given = Seed(
        key,
        "amd64",
        "AL2023",
        dict.fromkeys(images, "sha256:1"),
        images,
        snapshot_id=f"snap-{key}",
        state=State.READY.value,
        created=NOW,
    )
    return replace(given, **changes)


def test_the_seed_with_most_bytes_wins() -> None:
    """Most bytes of the pods' images, of seeds that such a node can read."""
    seeds = [
        _seed("small", {"a": 5}),
        _seed("large", {"a": 5, "b": 9}),
        _seed("arm", {"a": 99, "b": 99}, arch="arm64"),
        _seed("other", {"a": 99}, snapshotter="soci"),
        _seed("gone", {"a": 99}, state=State.RETIRED.value),
        _seed("theirs", {"a": 99}, node_classes=("cpu",)),
    ]
    best = best_seed(["a", "b"], "amd64", "AL2023", seeds, "gpu")
    assert best is not None
    assert best.key == "large"
    assert best_seed(["c"], "amd64", "AL2023", seeds) is None
    other = best_seed(["a"], "amd64", "AL2023", seeds, "gpu", "soci")
    assert other is not None
    assert other.key == "other"


def test_of_equals_the_one_that_is_warm_sooner_wins() -> None:
    """Of two that hold the pods' images the one with less besides; then the newer one."""
    wide = _seed("wide", {"a": 5, "x": 50}, created=NOW + timedelta(2))
    seeds = [wide, _seed("new", {"a": 5}, created=NOW + timedelta(1)), _seed("old", {"a": 5})]
    best = best_seed(["a"], "amd64", "AL2023", seeds)
    assert best is not None
    assert best.key == "new"


def test_a_pod_that_names_a_digest_is_served() -> None:
    """The digest is what counts, whichever tag it was built under."""
    seed = replace(_seed("s", {"host/a:v1": 5}), images={"host/a:v1": "sha256:ab"})
    assert best_seed(["host/a@sha256:ab"], "amd64", "AL2023", [seed]) is seed
    assert best_seed(["host/a@sha256:cd"], "amd64", "AL2023", [seed]) is None


def test_a_new_seed_replaces_older_tags() -> None:
    """A seed whose repositories are all in the new one goes; others stay.

    One with more in it, of other nodes, or of classes that the new one does not serve.
    """
    newest = _seed("n", {"r/a:2": 1, "r/b:2": 1}, node_classes=("gpu",))
    older = _seed("o", {"r/a:1": 1}, node_classes=("gpu",))
    wider = _seed("w", {"r/a:1": 1, "r/c:1": 1}, node_classes=("gpu",))
    arm = _seed("x", {"r/a:1": 1}, arch="arm64", node_classes=("gpu",))
    theirs = _seed("t", {"r/a:1": 1}, node_classes=("cpu",))
    assert superseded([newest, older, wider, arm, theirs], newest) == (older,)


def test_a_moved_tag_is_seen() -> None:
    """A tag that means another digest has moved; one that nobody shows has not."""
    found = {"a:1": Image("a:1", "sha256:2", 1, ()), "b:1": Image("b:1", "sha256:1", 1, ())}
    said = {"a:1": "sha256:1", "b:1": "sha256:1", "c:1": "sha256:1"}
    assert moved(said, found) == {"a:1": "sha256:2"}


def test_volumes_hold_what_is_unpacked() -> None:
    """The same digest under two names is unpacked once; sizes go by tens of GiB."""
    one = Image("a:1", "sha256:1", 10 * GB, ("amd64",))
    assert volume_gib([one]) == volume_gib([one, replace(one, reference="a:2")]) == 30
    assert volume_gib([replace(one, compressed_bytes=GB // 2)]) == 20
    assert seed_key(["a"], "amd64", "AL2023", 20) != seed_key(["a"], "arm64", "AL2023", 20)


DISK = {"deviceName": "/dev/xvdb", "ebs": {"snapshotID": "snap-1", "volumeSize": "50Gi"}}
BOTTLEROCKET_SOCI = '[settings.container-runtime]\nsnapshotter = "soci"\n'
AL2023_SOCI = "apiVersion: node.eks.aws/v1alpha1\nspec: {featureGates: {FastImagePull: true}}"


@pytest.mark.parametrize(
    ("family", "spec", "said"),
    [
        (Family.AL2023, {}, ""),
        (Family.BOTTLEROCKET, {}, ""),
        (Family.CUSTOM, {}, "Custom cannot be seeded"),
        (Family.BOTTLEROCKET, {"userData": BOTTLEROCKET_SOCI}, "soci snapshotter"),
        (Family.AL2023, {"userData": AL2023_SOCI}, "soci snapshotter"),
        (Family.BOTTLEROCKET, {"blockDeviceMappings": [DISK]}, "made of snap-1 already"),
        (Family.AL2023, {"blockDeviceMappings": [DISK]}, ""),
    ],
)
def test_a_class_whose_nodes_would_not_see_a_seed_is_told(
    family: Family, spec: dict[str, Any], said: str
) -> None:
    """Another family, another snapshotter, or a data volume of the user's own snapshot."""
    discovery = [{"tags": {"karpenter.sh/discovery": "prod"}}]
    node_class = manifest.parse(
        {
            "apiVersion": "karpenter.k8s.aws/v1",
            "kind": "EC2NodeClass",
            "metadata": {"name": "gpu"},
            "spec": {
                "role": "node",
                "amiFamily": family.value,
                "amiSelectorTerms": [{"id": "ami-1"}],
                "subnetSelectorTerms": discovery,
                "securityGroupSelectorTerms": discovery,
                **spec,
            },
        }
    )
    found = obstacle(node_class, family)  # type: ignore[arg-type]
    assert said in found
    assert bool(found) is bool(said)
