"""The seed machine's steps, driven as the machine drives them: once, twice, and broken off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import labels, manifest
from outrider.apis.node import Node
from outrider.core.launch.userdata import seeder
from outrider.core.seeding import Image, Seed, State
from outrider.errors import CapacityError, CloudError, NotFound
from outrider.flows import seed
from tests.support.launches import nodeclass
from tests.support.market import IntentLedger, MarketWorld, pool

HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
TRAINER = f"{HOST}/ml/trainer:v42"


class Workshop:
    """The account as a seed builder sees it: builders and snapshots by tag."""

    def __init__(self, made: MarketWorld) -> None:
        self.made = made
        self.images = {TRAINER: Image(TRAINER, "sha256:" + "1" * 64, 9_500_000_000, ("amd64",))}
        self.machines: dict[str, dict[str, Any]] = {}
        self.copies: dict[str, dict[str, Any]] = {}
        self.said = ""
        self.refusals: list[CloudError] = []
        self.deleted: list[str] = []
        self.volumes: dict[str, dict[str, Any]] = {}
        self.fast: dict[str, str] = {}
        self.unfit_zones: dict[str, str] = {}

    def install(self) -> None:
        """Take the place of the cloud's seeding methods."""
        cloud: Any = self.made.cloud
        cloud.image = self.image
        cloud.builder_image = lambda _path: "ami-builder"
        cloud.run_seeder = self.run
        cloud.builders = lambda wanted: tuple(
            one for one in self.machines.values() if wanted.items() <= one["tags"].items()
        )
        cloud.console = lambda _id, _state: self.said
        cloud.stop_builder = lambda name: self.machines[name].update(state="stopping")
        cloud.create_snapshot = self.snapshot
        cloud.snapshots = lambda wanted: tuple(
            one for one in self.copies.values() if wanted.items() <= one["tags"].items()
        )
        cloud.delete_snapshot = self.delete
        cloud.seed_volumes = lambda wanted: tuple(
            one for one in self.volumes.values() if wanted.items() <= one["tags"].items()
        )
        cloud.delete_seed_volume = lambda name: self.volumes.pop(name, None)
        cloud.fast_restore = self.fast_restore
        cloud.fast_restores = lambda _snapshot: dict(self.fast)
        cloud.end_fast_restores = lambda _snapshot: self.fast.clear()
        cloud.terminate = lambda ids: [self.machines.pop(name, None) for name in ids]

    def image(self, reference: str) -> Image:
        """Return an image of the registry."""
        if reference not in self.images:
            raise NotFound(f"ECR has no image {reference}")
        return self.images[reference]

    def says(self, *names: str) -> None:
        """Let the builder say that it holds what was planned of *names*, and is done."""
        held = [f"{seeder.HOLDS} {name} {self.images[name].digest}\n" for name in names]
        self.said = f"{''.join(held)}{seeder.DONE}\n"

    def fast_restore(self, snapshot: str, zones: Sequence[str]) -> Mapping[str, str]:
        """Begin fast restores, unless a zone has none."""
        del snapshot
        if not self.unfit_zones:
            self.fast.update(dict.fromkeys(zones, "optimizing"))
        return self.unfit_zones

    def run(self, request: Mapping[str, Any]) -> str:
        """Launch a builder, unless there is no capacity."""
        if self.refusals:
            raise self.refusals.pop(0)
        tags = {
            tag["Key"]: tag["Value"]
            for one in request["TagSpecifications"]
            if one["ResourceType"] == "instance"
            for tag in one["Tags"]
        }
        name = f"i-{request['ClientToken'][:8]}"
        self.machines[name] = {
            "id": name,
            "state": "running",
            "tags": tags,
            "volumes": {seeder.DEVICE: "vol-1"},
            "launched": self.made.clock.now(),
            "request": request,
        }
        return name

    def snapshot(self, volume: str, description: str, marks: Mapping[str, str]) -> str:
        """Make a snapshot, once a seed."""
        del volume, description
        name = f"snap-{marks[labels.SEED][:8]}"
        made = {"id": name, "state": "pending", "tags": dict(marks), "gib": 30}
        self.copies.setdefault(name, {**made, "started": self.made.clock.now()})
        return name

    def delete(self, name: str) -> bool:
        """Delete a snapshot."""
        self.copies.pop(name, None)
        self.deleted.append(name)
        return True


class LockedLedger(IntentLedger):
    """A ledger with build locks."""

    def furnish(self) -> None:
        """Begin without locks."""
        super().furnish()
        self.locks: dict[str, str] = {}

    def lock_seed(self, key: str, owner: str, seconds: float) -> bool:
        """Take a lock."""
        del seconds
        return self.locks.setdefault(key, owner) == owner

    def seed_locks(self) -> Mapping[str, str]:
        """Return the locks."""
        return dict(self.locks)

    def unlock_seed(self, key: str, owner: str) -> None:
        """Give a lock back."""
        if self.locks.get(key) == owner:
            del self.locks[key]


@pytest.fixture
def made() -> MarketWorld:
    """Return a cluster in which a pod of pool `gpu` runs the trainer."""
    world = MarketWorld()
    world.ledger = LockedLedger(world.recorder, world.clock)
    world.ledger.furnish()
    node = Node("n1", labels={labels.NODEPOOL: "gpu", labels.ARCH: "amd64"}, ready=True)
    pod = manifest.parse(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "t", "namespace": "default", "uid": "u"},
            "spec": {"nodeName": "n1", "containers": [{"name": "m", "image": TRAINER}]},
            "status": {"phase": "Running"},
        }
    )
    world.furnish(world.ledger.stored, nodeclass(), pool(), node, pod)
    return world


@pytest.fixture
def shop(made: MarketWorld) -> Workshop:
    """Return the account of *made*, with the trainer in its registry."""
    workshop = Workshop(made)
    workshop.install()
    return workshop


def _push(tag: str = "v42", repository: str = "ml/trainer") -> dict[str, Any]:
    return {
        "source": "aws.ecr",
        "account": "123456789012",
        "execution": "arn:e1",
        "detail": {
            "result": "SUCCESS",
            "action-type": "PUSH",
            "repository-name": repository,
            "image-tag": tag,
        },
    }


def _do(made: MarketWorld, name: str, carried: Mapping[str, Any]) -> dict[str, Any]:
    """Do one step as the handler does it: what it returns joins what is carried."""
    return {**carried, **seed.step({**carried, "step": name}, made.world)}


def _build(made: MarketWorld, shop: Workshop, carried: dict[str, Any]) -> dict[str, Any]:
    """Drive one build to its end."""
    state = _do(made, "launch", carried)
    if state["joined"]:
        return state
    state = _do(made, "pulled", state)
    made.pass_time(60)
    shop.machines[state["builder"]]["state"] = "stopped"
    shop.says(*(image["reference"] for image in carried["images"]))
    for name in ("pulled", "stop", "verify", "snapshot", "completed"):
        state = _do(made, name, state)
    for copy in shop.copies.values():
        copy["state"] = "completed"
    for name in ("completed", "warm", "publish", "retire", "cleanup"):
        state = _do(made, name, state)
    return state


def _clean(made: MarketWorld, shop: Workshop) -> None:
    """No builder, no lock, no snapshot that nobody published."""
    assert shop.machines == {}
    assert made.ledger.locks == {}
    published = {one.snapshot_id for one in made.ledger.kept.values() if one.state == State.READY}
    assert set(shop.copies) == published


def test_a_push_becomes_a_seed(made: MarketWorld, shop: Workshop) -> None:
    """From the event to a seed that launches use; nothing is left behind."""
    planned = _do(made, "plan", _push())
    (build,) = planned["builds"]
    state = _build(made, shop, build)
    assert state["done"]
    (ready,) = made.ledger.kept.values()
    assert ready.state == State.READY
    assert ready.images == {TRAINER: "sha256:" + "1" * 64}
    assert made.telemetry.total("SeedsPublished") == 1
    assert [one["seed"] for one in made.bus.of("SeedPublished")] == [ready.key]
    _clean(made, shop)
    assert _do(made, "plan", _push())["builds"] == []


def test_a_builder_is_tagged_and_bounded(made: MarketWorld, shop: Workshop) -> None:
    """The builder has the node role, no key, a stop on shutdown, and tags with an expiry."""
    (build,) = _do(made, "plan", _push())["builds"]
    state = _do(made, "launch", build)
    request = shop.machines[state["builder"]]["request"]
    assert request["InstanceInitiatedShutdownBehavior"] == "stop"
    assert request["IamInstanceProfile"] == {"Name": "outrider-prod-node"}
    assert "KeyName" not in request
    tags = shop.machines[state["builder"]]["tags"]
    assert tags[labels.SEED] == build["seed"]
    assert tags[labels.EXPIRES] == "2026-03-02T15:23:21Z"
    assert labels.NODECLAIM_TAG not in tags


@pytest.mark.parametrize("event", [_push(repository="ml/other"), {**_push(), "detail": {}}])
def test_what_nobody_runs_is_not_built(
    made: MarketWorld, shop: Workshop, event: dict[str, Any]
) -> None:
    """A push of another repository builds nothing, a malformed one looks at what runs."""
    del shop
    found = _do(made, "plan", event)["builds"]
    assert len(found) == (0 if event["detail"] else 1)


def test_two_executions_build_once(made: MarketWorld, shop: Workshop) -> None:
    """Duplicates of the trigger: the second finds the lock taken and ends well."""
    (first,) = _do(made, "plan", _push())["builds"]
    (second,) = _do(made, "plan", {**_push(), "execution": "arn:e2"})["builds"]
    begun = _do(made, "launch", first)
    joined = _build(made, shop, second)
    assert joined["joined"]
    assert list(shop.machines) == [begun["builder"]]
    _build(made, shop, first)
    _clean(made, shop)
    assert len(made.ledger.kept) == 1


def test_a_repeated_launch_finds_its_builder(made: MarketWorld, shop: Workshop) -> None:
    """A step that was killed and comes again makes no second builder."""
    (build,) = _do(made, "plan", _push())["builds"]
    first, again = _do(made, "launch", build), _do(made, "launch", build)
    assert first["builder"] == again["builder"]
    assert len(shop.machines) == 1
    assert len(made.bus.of("SeedStarted")) == 1


def test_no_capacity_tries_the_next_type(made: MarketWorld, shop: Workshop) -> None:
    """A builder is had from another type or subnet; with none at all the step fails."""
    (build,) = _do(made, "plan", _push())["builds"]
    shop.refusals = [CapacityError("no", "InsufficientInstanceCapacity")] * 3
    assert _do(made, "launch", build)["builder"]
    shop.machines.clear()
    shop.refusals = [CapacityError("no", "InsufficientInstanceCapacity")] * 99
    with pytest.raises(CapacityError):
        _do(made, "launch", build)


@pytest.mark.parametrize("broken", ["says", "gone", "slow", "error"])
def test_a_failure_leaves_nothing(made: MarketWorld, shop: Workshop, broken: str) -> None:
    """Whatever goes wrong fails the step with its reason, and the cleanup leaves nothing."""
    (build,) = _do(made, "plan", _push())["builds"]
    state = _do(made, "launch", build)
    if broken == "says":
        shop.said = f"{seeder.FAILED} {TRAINER}: cannot be pulled\n"
    elif broken == "gone":
        shop.machines.clear()
    elif broken == "slow":
        made.pass_time(46 * 60)
    if broken == "error":
        shop.machines[state["builder"]]["state"] = "stopped"
        state = _do(made, "snapshot", state)
        next(iter(shop.copies.values()))["state"] = "error"
        with pytest.raises(CloudError, match="failed"):
            _do(made, "completed", state)
    else:
        with pytest.raises(CloudError) as caught:
            _do(made, "pulled", state)
        assert broken != "says" or "cannot be pulled" in str(caught.value)
        assert broken != "gone" or isinstance(caught.value, NotFound)
    _do(made, "cleanup", {**state, "error": {"Error": "CloudError", "Cause": "why"}})
    _clean(made, shop)
    assert made.bus.of("SeedFailed")[0]["reason"] == "why"
    assert made.ledger.kept == {}


@pytest.mark.parametrize("after", ["launch", "snapshot", "publish"])
def test_an_aborted_execution_is_swept(made: MarketWorld, shop: Workshop, after: str) -> None:
    """Behind an execution that ran no Catch the sweep finds what carries its decision."""
    (build,) = _do(made, "plan", _push())["builds"]
    state = _do(made, "launch", build)
    if after != "launch":
        shop.machines[state["builder"]]["state"] = "stopped"
        state = _do(made, "snapshot", state)
    if after == "publish":
        state = _do(made, "publish", state)
    shop.machines["i-other"] = {
        "id": "i-other",
        "state": "running",
        "tags": {labels.SEED: "x"},
        "volumes": {},
        "launched": made.clock.now(),
    }
    _do(made, "sweep", {"execution": "arn:e1", "status": "ABORTED"})
    assert list(shop.machines) == ["i-other"]
    del shop.machines["i-other"]
    _clean(made, shop)
    assert len(shop.copies) == (1 if after == "publish" else 0)


def test_the_old_seed_goes_a_little_later(made: MarketWorld, shop: Workshop) -> None:
    """What the new seed replaces is retired at once and its snapshot deleted when none uses it."""
    old = Seed(
        "old",
        "amd64",
        "AL2023",
        {f"{HOST}/ml/trainer:v41": "sha256:0"},
        snapshot_id="snap-old",
        state=State.READY.value,
    )
    made.ledger.kept["old"] = old
    shop.copies["snap-old"] = {
        "id": "snap-old",
        "state": "completed",
        "tags": {labels.SEED: "old"},
        "gib": 20,
        "started": made.clock.now(),
    }
    (build,) = _do(made, "plan", _push())["builds"]
    _build(made, shop, build)
    retired = made.ledger.kept["old"]
    assert retired.state == State.RETIRED
    assert "snap-old" not in shop.deleted
    made.pass_time(timedelta(minutes=16).total_seconds())
    _do(made, "plan", _push())
    assert "snap-old" in shop.deleted
    assert made.ledger.kept["old"] == replace(retired, snapshot_id="")


def test_observe_builds_nothing(shop: Workshop) -> None:
    """In mode observe the plan is told, and nothing is built."""
    shop.made.mode = "observe"
    assert _do(shop.made, "plan", _push())["builds"] == []
