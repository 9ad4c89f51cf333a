"""Which images deserve a seed, in which sets, and what a refusal says."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from outrider.core.catalog.family import Family
from outrider.core.seeding import Image, Seed, State, repository
from outrider.core.seeding.decide import (
    IMAGES_A_SEED,
    SEEDS,
    SEEDS_A_POOL,
    Decision,
    Heat,
    PoolDemand,
    Use,
    decide,
)
from outrider.core.seeding.estimate import WarmUp
from outrider.core.seeding.wishes import mode

GB = 1000**3
HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
TRAINER = f"{HOST}/ml/trainer:v42"


def _image(reference: str = TRAINER, gigabytes: float = 9.5, *arches: str) -> Image:
    digest = f"sha256:{abs(hash(reference)):064x}"
    return Image(reference, digest, int(gigabytes * GB), arches or ("amd64",))


def _demand(*references: str, asked: str = "auto", **changes: Any) -> PoolDemand:
    use = Use(
        changes.pop("pods", 1),
        changes.pop("architectures", ("amd64",)),
        changes.pop("private", False),
    )
    found, listed = mode(asked)
    given = PoolDemand("gpu", "gpu", Family.AL2023, found, listed)
    return replace(given, images=dict.fromkeys(references or (TRAINER,), use), **changes)


def _decide(demand: PoolDemand, *images: Image, **more: Any) -> Decision:
    found = images or tuple(map(_image, demand.images))
    return decide([demand], {image.reference: image for image in found}, (), **more)


def test_a_large_image_is_seeded() -> None:
    """An image of 9.5 GB that a pod of the pool runs becomes one build, with its reason."""
    decision = _decide(_demand())
    assert decision.refused == ()
    (build,) = decision.builds
    assert build.images[0].reference == TRAINER
    assert build.volume_gib == 30
    assert "9.5 GB" in build.reason
    assert "334 s by a plain pull" in build.reason


@pytest.mark.parametrize(
    ("demand", "image", "said"),
    [
        (_demand(asked="off"), _image(), "outrider.dev/seed: off"),
        (_demand(private=True), _image(), "private"),
        (_demand(obstacle="a node of AMI family Custom cannot"), _image(), "Custom cannot"),
        (_demand(), _image(TRAINER, 0.1), "100 MB are pulled in 4 s"),
        (_demand(), _image(TRAINER, 900), "does not fit"),
        (_demand(), _image(TRAINER, 9.5, "arm64"), "no manifest for its nodes"),
        (_demand(asked="other/image"), _image(), "lists other images"),
        (_demand(), _image("else:1"), "does not have it"),
        (_demand("quay.io/a/b:1"), _image("quay.io/a/b:1"), "list it in outrider.dev/seed"),
    ],
)
def test_a_refusal_says_why(demand: PoolDemand, image: Image, said: str) -> None:
    """What would not help, may not be or cannot be is not built, and the reason is said."""
    decision = _decide(demand, image)
    assert decision.builds == ()
    assert said in decision.refused[0].reason
    assert decision.refused[0].reference in demand.images


def test_what_the_registry_says_is_passed_on() -> None:
    """An image that is not there, or not ours to see, is refused in the registry's words."""
    decision = decide([_demand()], {}, (), absent={TRAINER: "ECR has no image ml/trainer:v42"})
    assert decision.refused[0].reason == "ECR has no image ml/trainer:v42"


def test_what_would_not_help_is_not_built() -> None:
    """Blocks that arrive when they are read make a slower start than a pull: nothing is built."""
    cold = _decide(_demand(), heat=Heat(WarmUp.NONE))
    assert cold.builds == ()
    assert "a seed takes 817 s" in cold.refused[0].reason
    assert _decide(_demand(), heat=Heat(WarmUp.FAST_RESTORE)).builds[0].ways.seeded == 0


def test_private_images_need_a_word() -> None:
    """A seeded image can be read by any pod of the node: the class has to agree."""
    assert len(_decide(_demand(private=True, asked="private")).builds) == 1


def test_a_private_image_serves_no_other_class() -> None:
    """A class that did not agree is not among those that the private seed serves."""
    secret, public = f"{HOST}/ml/secret:1", f"{HOST}/ml/public:1"
    agreeing = PoolDemand(
        "own",
        "own",
        Family.AL2023,
        mode("private")[0],
        images={secret: Use(private=True), public: Use()},
    )
    other = PoolDemand("all", "all", Family.AL2023, images={public: Use()})
    decision = decide([agreeing, other], {n: _image(n) for n in (secret, public)}, ())
    for build in decision.builds:
        if secret in {image.reference for image in build.images}:
            assert build.node_classes == ("own",)
    assert {build.node_classes for build in decision.builds} == {("own",), ("all",)}


def test_listed_images_are_built_whatever_their_size() -> None:
    """Who lists an image wants it; a small one as well, by repository, tag or digest."""
    for name in ("ml/trainer", "ml/trainer:v42", repository(TRAINER), TRAINER):
        assert len(_decide(_demand(asked=name), _image(TRAINER, 0.1)).builds) == 1
    assert _decide(_demand(asked="ml/trainer:v41")).builds == ()


def test_a_seed_that_is_there_is_not_built_again() -> None:
    """The same digests on the same kind of node are one seed; it is shown, and not built."""
    (build,) = _decide(_demand()).builds
    ready = Seed(build.key, "amd64", "AL2023", {}, state=State.READY.value)
    again = decide([_demand()], {TRAINER: _image()}, [ready])
    assert again.builds == ()
    assert [one.ready for one in again.wanted] == [True]
    moved = replace(_image(), digest="sha256:" + "f" * 64)
    assert len(decide([_demand()], {TRAINER: moved}, [ready]).builds) == 1


def test_a_seed_with_more_on_it_is_enough() -> None:
    """What a push added before any pod runs it is not built away again at the next look."""
    newer = f"{HOST}/ml/trainer:v43"
    images = {TRAINER: _image().digest, newer: _image(newer).digest}
    both = Seed(
        "k", "amd64", "AL2023", images, state=State.READY.value, node_classes=("gpu", "cpu")
    )
    assert decide([_demand()], {TRAINER: _image()}, [both]).builds == ()
    theirs = replace(both, node_classes=("cpu",))
    assert len(decide([_demand()], {TRAINER: _image()}, [theirs]).builds) == 1
    arm = replace(both, arch="arm64")
    assert len(decide([_demand()], {TRAINER: _image()}, [arm]).builds) == 1


def test_a_push_builds_what_it_touches() -> None:
    """A push of an image that nobody runs builds nothing."""
    assert len(_decide(_demand(), pushed=frozenset({repository(TRAINER)})).builds) == 1
    assert _decide(_demand(), pushed=frozenset({"else"})).builds == ()


def test_sets_are_split_by_what_reads_them() -> None:
    """Architecture and family make sets of their own."""
    image = _image(TRAINER, 9.5, "amd64", "arm64")
    demands = [
        _demand(architectures=("amd64", "arm64")),
        _demand(family=Family.BOTTLEROCKET, node_class="b", node_pool="b"),
    ]
    decision = decide(demands, {TRAINER: image}, ())
    assert [(build.arch, build.family) for build in decision.builds] == [
        ("amd64", "AL2023"),
        ("amd64", "Bottlerocket"),
        ("arm64", "AL2023"),
    ]


def test_pools_with_the_same_digests_share_a_seed() -> None:
    """One snapshot serves every pool that wants just these digests, under all their names."""
    other = f"{HOST}/ml/trainer:latest"
    same = replace(_image(), reference=other)
    demands = [_demand(), _demand(other, node_pool="b", node_class="b", pods=3)]
    (build,) = decide(demands, {TRAINER: _image(), other: same}, ()).builds
    assert build.node_pools == ("b", "gpu")
    assert build.node_classes == ("b", "gpu")
    assert {image.reference for image in build.images} == {TRAINER, other}
    assert build.pods == 4
    assert build.volume_gib == 30


def test_an_image_that_would_delay_the_others_has_a_seed_of_its_own() -> None:
    """All of a volume has to arrive: one huge, rare image does not share with a frequent one."""
    hot, huge = f"{HOST}/ml/hot:1", f"{HOST}/ml/huge:1"
    demand = replace(_demand(), images={hot: Use(pods=500), huge: Use(pods=1)})
    decision = decide([demand], {hot: _image(hot, 2), huge: _image(huge, 150)}, ())
    assert sorted(len(build.images) for build in decision.builds) == [1, 1]


def test_there_are_few_seeds_of_few_images() -> None:
    """A pool has two seeds of at most sixteen images; who is left out is told why."""
    names = [f"{HOST}/{number}:1" for number in range(40)]
    decision = _decide(_demand(*names), *(_image(name, 1) for name in names))
    assert len(decision.builds) == SEEDS_A_POOL
    assert all(len(build.images) <= IMAGES_A_SEED for build in decision.builds)
    kept = sum(len(build.images) for build in decision.builds)
    assert len(decision.refused) == 40 - kept
    assert "save more" in decision.refused[0].reason


def test_the_account_s_seeds_have_a_limit() -> None:
    """Of more sets than that, those are built that save most."""
    demands = [
        _demand(f"{HOST}/{n}:1", node_pool=f"p{n}", node_class=f"c{n}", pods=n + 1)
        for n in range(SEEDS + 6)
    ]
    images = {name: _image(name) for demand in demands for name in demand.images}
    decision = decide(demands, images, ())
    assert len(decision.builds) == SEEDS
    assert {one.node_class for one in decision.refused} == {f"c{n}" for n in range(6)}


def test_the_same_input_in_any_order_is_the_same_decision() -> None:
    """Neither pools nor images come in an order that matters."""
    names = [f"{HOST}/{number}:1" for number in range(20)]
    images = {name: _image(name, 1 + number / 7) for number, name in enumerate(names)}
    pools = [_demand(*names[n:], node_pool=f"p{n}", node_class=f"c{n}") for n in range(5)]
    turned = [
        replace(one, images=dict(reversed(list(one.images.items())))) for one in reversed(pools)
    ]
    assert decide(pools, images, ()).wanted == decide(turned, images, ()).wanted


def test_five_hundred_images_of_fifty_pools_are_quick() -> None:
    """Planning 500 images x 50 NodePools takes well under a second of one slow core."""
    images = {f"{HOST}/{n}:1": _image(f"{HOST}/{n}:1", 2) for n in range(500)}
    use = Use(3)
    demands = [
        PoolDemand(f"p{n}", f"c{n}", Family.AL2023, images=dict.fromkeys(images, use))
        for n in range(50)
    ]
    begun = time.process_time()
    decision = decide(demands, images, ())
    assert decision.builds
    assert time.process_time() - begun < 1.0
