"""Which images deserve a seed, which seed serves a launch, and what a refusal says."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outrider.core.backoff import FIRST, LONGEST, Mark, next_mark
from outrider.core.catalog.family import Family
from outrider.core.seeding import (
    Image,
    Mode,
    Seed,
    State,
    Usage,
    best_seed,
    decide,
    mode,
    repository,
    same_image,
    seed_key,
    superseded,
    volume_gib,
)

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
GB = 1000**3
TRAINER = "123.dkr.ecr.us-east-1.amazonaws.com/ml/trainer:v42"


def _image(reference: str = TRAINER, gigabytes: float = 9.5, *arches: str) -> Image:
    return Image(
        reference, f"sha256:{abs(hash(reference)):064x}", int(gigabytes * GB), arches or ("amd64",)
    )


def _usage(reference: str = TRAINER, **changes: Any) -> Usage:
    given = Usage(reference, "gpu", Family.AL2023, ("amd64",))
    return replace(given, **changes)


def _decide(usage: Usage, image: Image | None = None, asked: str = "auto", **more: Any) -> Any:
    found = image or _image(usage.reference)
    return decide([(usage, *mode(asked))], {found.reference: found}, (), **more)


def test_a_large_image_is_seeded() -> None:
    """An image of 9.5 GB that a pod of the class runs becomes one build, with its reason."""
    builds, refused = _decide(_usage())
    assert refused == ()
    assert len(builds) == 1
    assert builds[0].images[0].reference == TRAINER
    assert builds[0].volume_gib == 30
    assert "9.5 GB" in builds[0].reason


@pytest.mark.parametrize(
    ("usage", "image", "asked", "said"),
    [
        (_usage(), None, "off", "outrider.dev/seed: off"),
        (_usage(private=True), None, "auto", "private"),
        (_usage(family=Family.CUSTOM), None, "auto", "Custom cannot be seeded"),
        (_usage(), _image(gigabytes=0.1), "auto", "100 MB are pulled sooner"),
        (_usage(), _image(gigabytes=900), "auto", "does not fit"),
        (_usage(), _image(TRAINER, 9.5, "arm64"), "auto", "no manifest for its nodes"),
        (_usage(), None, "other/image", "lists other images"),
        (_usage(), _image("else:1"), "auto", "does not have it"),
        (_usage("quay.io/a/b:1"), None, "auto", "list it in outrider.dev/seed"),
    ],
)
def test_a_refusal_says_why(usage: Usage, image: Image | None, asked: str, said: str) -> None:
    """What would not help, may not be or cannot be is not built, and the reason is said."""
    builds, refused = _decide(usage, image, asked)
    assert builds == ()
    assert said in refused[0].reason


def test_private_images_need_a_word() -> None:
    """A seeded image can be read by any pod of the node: the class has to agree."""
    assert len(_decide(_usage(private=True), None, "private")[0]) == 1


def test_listed_images_are_built_whatever_their_size() -> None:
    """Who lists an image wants it; a small one as well, by repository, tag or digest."""
    for name in ("ml/trainer", "ml/trainer:v42", repository(TRAINER), TRAINER):
        assert len(_decide(_usage(), _image(gigabytes=0.1), name)[0]) == 1
    assert _decide(_usage(), None, "ml/trainer:v41")[0] == ()


def test_a_seed_that_is_there_is_not_built_again() -> None:
    """The same digests on the same kind of node are one seed."""
    (build,), _ = _decide(_usage())
    ready = Seed(build.key, "amd64", "AL2023", {}, state=State.READY.value)
    image = _image()
    assert decide([(_usage(), *mode("auto"))], {TRAINER: image}, [ready])[0] == ()
    moved = replace(image, digest="sha256:" + "f" * 64)
    assert len(decide([(_usage(), *mode("auto"))], {TRAINER: moved}, [ready])[0]) == 1


def test_a_push_builds_what_it_touches() -> None:
    """A push of an image that nobody runs builds nothing."""
    name = repository(TRAINER)
    assert len(_decide(_usage(), pushed=frozenset({name}))[0]) == 1
    assert _decide(_usage(), pushed=frozenset({"else"}))[0] == ()


def test_sets_are_split_by_what_reads_them() -> None:
    """Architecture and family make sets of their own."""
    usages = [
        (_usage(architectures=("amd64", "arm64")), *mode("auto")),
        (_usage(family=Family.BOTTLEROCKET, node_class="b"), *mode("auto")),
    ]
    builds, _ = decide(usages, {TRAINER: _image(TRAINER, 9.5, "amd64", "arm64")}, ())
    assert {(build.arch, build.family) for build in builds} == {
        ("amd64", "AL2023"),
        ("arm64", "AL2023"),
        ("amd64", "Bottlerocket"),
    }
    assert seed_key(["a"], "amd64", "AL2023", 20) != seed_key(["a"], "arm64", "AL2023", 20)


def test_modes_are_read() -> None:
    """The annotation's words, and a list of images."""
    assert mode(None) == (Mode.AUTO, ())
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


def test_the_newest_of_equals_wins() -> None:
    """Of two seeds with the same bytes the newer one is used."""
    seeds = [_seed("new", {"a": 5}, created=NOW + timedelta(1)), _seed("old", {"a": 5})]
    best = best_seed(["a"], "amd64", "AL2023", seeds)
    assert best is not None
    assert best.key == "new"


def test_a_new_seed_replaces_older_tags() -> None:
    """A seed whose repositories are all in the new one goes; one with more in it stays."""
    newest = _seed("n", {"r/a:2": 1, "r/b:2": 1})
    older = _seed("o", {"r/a:1": 1})
    wider = _seed("w", {"r/a:1": 1, "r/c:1": 1})
    arm = _seed("x", {"r/a:1": 1}, arch="arm64")
    assert superseded([newest, older, wider, arm], newest) == (older,)


def test_volumes_hold_what_is_unpacked() -> None:
    """The same digest under two names is unpacked once; sizes go by tens of GiB."""
    one, other = _image("a:1", 10), replace(_image("a:1", 10), reference="a:2")
    assert volume_gib([one]) == volume_gib([one, other]) == 30
    assert volume_gib([_image("a:1", 0.5)]) == 20


def test_five_hundred_images_of_fifty_pools_are_quick() -> None:
    """Planning 500 images x 50 NodePools takes well under a second."""
    host = "1.dkr.ecr.us-east-1.amazonaws.com"
    images = {f"{host}/{n}:1": _image(f"{host}/{n}:1", 2) for n in range(500)}
    usages = [
        (_usage(name, node_class=f"c{pool}"), *mode("auto"))
        for pool in range(50)
        for name in images
    ]
    begun = time.process_time()
    builds, _ = decide(usages, images, ())
    assert builds
    assert time.process_time() - begun < 2.0


def test_backoff_grows_and_forgets() -> None:
    """Twice as long with each refusal in a row up to 40 minutes, afresh after a rest."""
    mark = next_mark(None, NOW)
    assert mark.until - NOW == FIRST
    assert next_mark(mark, NOW + timedelta(seconds=1)) == mark
    lengths = []
    for _ in range(6):
        at = mark.until + timedelta(seconds=1)
        mark = next_mark(mark, at)
        lengths.append((mark.until - at).total_seconds())
    assert lengths == [360, 720, 1440, 2400, 2400, 2400]
    assert mark.until - (mark.until - LONGEST) == LONGEST
    rested = next_mark(mark, mark.until + timedelta(hours=1))
    assert rested == Mark(mark.until + timedelta(hours=1) + FIRST, 1)
