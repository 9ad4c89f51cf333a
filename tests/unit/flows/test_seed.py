"""The seed machine's steps, driven as the machine drives them: once, twice, and broken off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from outrider.apis import labels
from outrider.core.launch.userdata import seeder
from outrider.core.seeding import Seed, State
from outrider.core.seeding.garbage import Kind
from outrider.errors import BuildFailed, CapacityError, CloudError, NotFound, Throttled
from outrider.flows import seed, seedend
from tests.support.workshop import HOST, TRAINER, SeedWorld, Workshop, running_trainer

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.fixture
def made() -> SeedWorld:
    """Return a cluster in which a pod of pool `gpu` runs the trainer."""
    return running_trainer()


@pytest.fixture
def shop(made: SeedWorld) -> Workshop:
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


def _do(made: SeedWorld, name: str, carried: Mapping[str, Any]) -> dict[str, Any]:
    """Do one step as the handler does it: what it returns joins what is carried."""
    return {**carried, **seed.step({**carried, "step": name}, made.world)}


def _build(made: SeedWorld, shop: Workshop, carried: dict[str, Any]) -> dict[str, Any]:
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


def _clean(made: SeedWorld, shop: Workshop) -> None:
    """No builder, no lock, no snapshot that nobody published."""
    assert shop.machines == {}
    assert made.ledger.locks == {}
    published = {one.snapshot_id for one in made.ledger.kept.values() if one.state == State.READY}
    assert set(shop.copies) == published


def test_a_push_becomes_a_seed(made: SeedWorld, shop: Workshop) -> None:
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


def test_a_builder_is_tagged_and_bounded(made: SeedWorld, shop: Workshop) -> None:
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
    made: SeedWorld, shop: Workshop, event: dict[str, Any]
) -> None:
    """A push of another repository builds nothing, a malformed one looks at what runs."""
    del shop
    found = _do(made, "plan", event)["builds"]
    assert len(found) == (0 if event["detail"] else 1)


def test_two_executions_build_once(made: SeedWorld, shop: Workshop) -> None:
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


def test_a_repeated_launch_finds_its_builder(made: SeedWorld, shop: Workshop) -> None:
    """A step that was killed and comes again makes no second builder."""
    (build,) = _do(made, "plan", _push())["builds"]
    first, again = _do(made, "launch", build), _do(made, "launch", build)
    assert first["builder"] == again["builder"]
    assert len(shop.machines) == 1
    assert len(made.bus.of("SeedStarted")) == 1


def test_no_capacity_tries_the_next_type(made: SeedWorld, shop: Workshop) -> None:
    """A builder is had from another type or subnet; with none at all the step fails."""
    (build,) = _do(made, "plan", _push())["builds"]
    shop.refusals = [CapacityError("no", "InsufficientInstanceCapacity")] * 3
    assert _do(made, "launch", build)["builder"]
    shop.machines.clear()
    shop.refusals = [CapacityError("no", "InsufficientInstanceCapacity")] * 99
    with pytest.raises(CapacityError):
        _do(made, "launch", build)


@pytest.mark.parametrize("broken", ["says", "gone", "slow", "error"])
def test_a_failure_leaves_nothing(made: SeedWorld, shop: Workshop, broken: str) -> None:
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
def test_an_aborted_execution_is_swept(made: SeedWorld, shop: Workshop, after: str) -> None:
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


def test_the_old_seed_goes_a_little_later(made: SeedWorld, shop: Workshop) -> None:
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


# --- queues, verification, tags that move ---------------------------------------------------------


def test_builders_at_once_have_a_limit(made: SeedWorld, shop: Workshop) -> None:
    """A build that finds all builders at work waits its turn, and not for ever."""
    made.settings["seed_builders"] = 1
    (build,) = _do(made, "plan", _push())["builds"]
    shop.machines["i-other"] = {"id": "i-other", "state": "running", "tags": {}}
    state = _do(made, "launch", build)
    assert not state["done"]
    made.pass_time(30 * 60)
    state = _do(made, "launch", state)
    made.pass_time(31 * 60)
    with pytest.raises(BuildFailed, match="at work"):
        _do(made, "launch", state)
    del shop.machines["i-other"]
    assert _do(made, "launch", state)["done"]


def _stopped(made: SeedWorld, shop: Workshop) -> dict[str, Any]:
    """Return what is carried when the builder has stopped."""
    (build,) = _do(made, "plan", _push())["builds"]
    state = _do(made, "launch", build)
    shop.machines[state["builder"]]["state"] = "stopped"
    for name in ("pulled", "stop"):
        state = _do(made, name, state)
    return state


def test_a_builder_with_another_digest_fails(made: SeedWorld, shop: Workshop) -> None:
    """What the builder holds is not what was planned: said with the image's name."""
    state = _stopped(made, shop)
    shop.said = f"{seeder.HOLDS} {TRAINER} {TWO}\n{seeder.DONE}\n"
    with pytest.raises(BuildFailed, match=f"{TRAINER}: the builder holds {TWO}, planned was"):
        _do(made, "verify", state)
    shop.said = f"{seeder.DONE}\n"
    with pytest.raises(BuildFailed, match="holds nothing"):
        _do(made, "verify", state)


def test_a_builder_that_says_nothing_fails(made: SeedWorld, shop: Workshop) -> None:
    """EC2 posts a console a while after the stop; after ten minutes nobody waits any more."""
    state = _stopped(made, shop)
    assert not _do(made, "verify", state)["done"]
    made.pass_time(11 * 60)
    with pytest.raises(BuildFailed, match="without saying"):
        _do(made, "verify", state)


def test_last_words_of_a_running_builder_are_kept(made: SeedWorld, shop: Workshop) -> None:
    """What the poll heard while it ran verifies it, though the console is silent later."""
    (build,) = _do(made, "plan", _push())["builds"]
    state = _do(made, "launch", build)
    shop.says(TRAINER)
    state = _do(made, "pulled", state)
    assert not state["done"]
    shop.machines[state["builder"]]["state"] = "stopped"
    shop.said = ""
    for name in ("pulled", "stop", "verify"):
        state = _do(made, name, state)
        assert state["done"]


def test_a_tag_that_moves_during_a_build_is_not_published(made: SeedWorld, shop: Workshop) -> None:
    """Two pushes during a build end with the newest digest published, whoever ends first."""
    (first,) = _do(made, "plan", _push())["builds"]
    begun = _do(made, "launch", first)
    shop.images[TRAINER] = replace(shop.images[TRAINER], digest=TWO)
    (second,) = _do(made, "plan", {**_push(), "execution": "arn:e2"})["builds"]
    assert second["seed"] != first["seed"]
    _build(made, shop, second)
    shop.images[TRAINER] = replace(shop.images[TRAINER], digest=ONE)
    shop.says(TRAINER)
    shop.images[TRAINER] = replace(shop.images[TRAINER], digest=TWO)
    shop.machines[begun["builder"]]["state"] = "stopped"
    state = begun
    for name in ("pulled", "stop", "verify", "snapshot", "completed", "warm", "publish"):
        state = _do(made, name, state)
    assert state["outcome"] == "moved"
    for name in ("retire", "cleanup"):
        state = _do(made, name, state)
    (ready,) = [one for one in made.ledger.kept.values() if one.state == State.READY]
    assert ready.images == {TRAINER: TWO}
    assert f"{TRAINER} was moved to {TWO}" in made.bus.of("SeedFailed")[0]["reason"]
    _clean(made, shop)


def test_a_moved_tag_retires_its_seed_at_once(made: SeedWorld, shop: Workshop) -> None:
    """A pod that asks for the tag would silently start the old image."""
    (build,) = _do(made, "plan", _push())["builds"]
    _build(made, shop, build)
    shop.images[TRAINER] = replace(shop.images[TRAINER], digest=TWO)
    assert len(_do(made, "plan", {**_push(), "execution": "arn:e2"})["builds"]) == 1
    (old,) = made.ledger.kept.values()
    assert old.state == State.RETIRED
    assert old.reason == f"{TRAINER} means {TWO} now"


def test_a_new_name_of_a_seeded_digest_is_learnt(made: SeedWorld, shop: Workshop) -> None:
    """Another tag of the same image builds nothing: the seed serves it from now on."""
    (build,) = _do(made, "plan", _push())["builds"]
    _build(made, shop, build)
    latest = f"{HOST}/ml/trainer:latest"
    shop.images[latest] = replace(shop.images[TRAINER], reference=latest)
    assert _do(made, "plan", _push(tag="latest"))["builds"] == []
    (known,) = made.ledger.kept.values()
    assert set(known.images) == {TRAINER, latest}


def test_a_push_without_a_tag_asks_for_no_image(made: SeedWorld, shop: Workshop) -> None:
    """The manifests of an index are pushed by digest: they name a repository, no tag `latest`."""
    event = _push()
    del event["detail"]["image-tag"]
    found = _do(made, "plan", event)
    assert [one["reference"] for one in found["builds"][0]["images"]] == [TRAINER]
    assert found["refused"] == []


def test_an_image_that_is_not_there_is_refused_by_name(made: SeedWorld, shop: Workshop) -> None:
    """Before a builder is paid for, and in the execution's output."""
    shop.images.clear()
    found = _do(made, "plan", _push())
    assert found["builds"] == []
    assert found["refused"][0]["image"] == TRAINER
    assert "no image" in found["refused"][0]["reason"]


# --- warm-up --------------------------------------------------------------------------------------


def _warming(made: SeedWorld, shop: Workshop) -> dict[str, Any]:
    """Return what is carried when the snapshot is complete, fast restore being the setting."""
    made.settings["seed_warm_up"] = "fast-restore"
    return _do(made, "snapshot", _stopped(made, shop))


def test_a_snapshot_is_fast_restored_before_it_is_published(
    made: SeedWorld, shop: Workshop
) -> None:
    """In every zone of its classes, and only then a launch may use it."""
    state = _do(made, "warm", _warming(made, shop))
    assert not state["done"]
    assert set(shop.fast.values()) == {"optimizing"}
    zones = sorted(shop.fast)
    assert not _do(made, "warm", state)["done"]
    shop.fast.update(dict.fromkeys(zones, "enabled"))
    state = _do(made, "warm", state)
    assert state["done"]
    state = _do(made, "publish", state)
    (ready,) = made.ledger.kept.values()
    assert (ready.warm_up, list(ready.zones)) == ("fast-restore", zones)


@pytest.mark.parametrize("trouble", ["refused", "slow", "denied"])
def test_a_seed_without_fast_restore_has_the_rate(
    made: SeedWorld, shop: Workshop, trouble: str
) -> None:
    """A quota, a zone without it, or no end of it: a slower seed beats none, and none is paid."""
    state = _warming(made, shop)
    if trouble == "refused":
        shop.unfit_zones = {"us-east-1a": "The limit on fast snapshot restores is reached"}
    elif trouble == "denied":
        shop.refuse("fast_restores", CloudError("no", "UnauthorizedOperation"))
    state = _do(made, "warm", state)
    if trouble == "slow":
        assert not state["done"]
        made.pass_time(3600)
        state = _do(made, "warm", state)
    assert (state["done"], state["warmUp"]) == (True, "rate")
    assert shop.fast == {}


def test_a_throttled_warm_up_is_tried_again(made: SeedWorld, shop: Workshop) -> None:
    """Being asked to slow down is no reason to give fast restore up."""
    state = _warming(made, shop)
    shop.refuse("fast_restores", Throttled("slow down"))
    with pytest.raises(Throttled):
        _do(made, "warm", state)


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", ["launch", "snapshot"])
def test_a_step_that_comes_after_the_sweep_undoes_itself(
    made: SeedWorld, shop: Workshop, late: str
) -> None:
    """An execution is aborted while its step runs: what the step makes then nobody would find."""
    (build,) = _do(made, "plan", _push())["builds"]
    state = dict(build)
    if late == "snapshot":
        state = _do(made, "launch", build)
        shop.machines[state["builder"]]["state"] = "stopped"
    method = "run_seeder" if late == "launch" else "create_snapshot"
    shop.meanwhile(method, lambda: _do(made, "sweep", {"execution": "arn:e1", "status": "ABORTED"}))
    with pytest.raises(BuildFailed, match="has ended"):
        _do(made, late, state)
    _clean(made, shop)


def test_a_lock_without_a_builder_is_swept(made: SeedWorld, shop: Workshop) -> None:
    """An execution that died between its lock and its builder leaves no lock."""
    (build,) = _do(made, "plan", _push())["builds"]
    shop.refusals = [CapacityError("no", "InsufficientInstanceCapacity")] * 99
    with pytest.raises(CapacityError):
        _do(made, "launch", build)
    assert made.ledger.locks
    _do(made, "sweep", {"execution": "arn:e1", "status": "TIMED_OUT"})
    _clean(made, shop)
    assert made.bus.of("SeedFailed")[0]["reason"] == "TIMED_OUT"


def test_a_published_seed_is_not_called_failed(made: SeedWorld, shop: Workshop) -> None:
    """What fails after the publication does not take the seed back."""
    (build,) = _do(made, "plan", _push())["builds"]
    state = _build(made, shop, build)
    _do(made, "cleanup", {**state, "error": {"Error": "X", "Cause": "retire failed"}})
    assert made.bus.of("SeedFailed") == []
    _clean(made, shop)


def test_garbage_is_said_before_it_goes(made: SeedWorld, shop: Workshop) -> None:
    """A dry run changes nothing and names the same things, with the same reasons."""
    (build,) = _do(made, "plan", _push())["builds"]
    _build(made, shop, build)
    made.pass_time(31 * 24 * 3600)
    told = seedend.collect(made.world, dry_run=True)
    (ready,) = made.ledger.kept.values()
    assert ready.state == State.READY
    assert [one.kind for one in told] == [Kind.SEED]
    assert seedend.collect(made.world) == told
    made.pass_time(16 * 60)
    (snapshot,) = seedend.collect(made.world)
    assert "no pod has run an image of it for 31 days" in snapshot.reason
    assert shop.copies == {}
    assert seedend.collect(made.world) == ()


def test_a_seed_that_pods_run_is_kept(made: SeedWorld, shop: Workshop) -> None:
    """Every look says that it is used; retention counts from the last one."""
    (build,) = _do(made, "plan", _push())["builds"]
    _build(made, shop, build)
    for _ in range(5):
        made.pass_time(10 * 24 * 3600)
        _do(made, "plan", {"reason": "images in use"})
    (ready,) = made.ledger.kept.values()
    assert ready.state == State.READY


def test_a_builder_that_does_not_stop_fails(made: SeedWorld, shop: Workshop) -> None:
    """StopInstances is repeated for a quarter of an hour, and then given up."""
    (build,) = _do(made, "plan", _push())["builds"]
    state = _do(made, "stop", _do(made, "launch", build))
    made.pass_time(14 * 60)
    state = _do(made, "stop", state)
    made.pass_time(2 * 60)
    with pytest.raises(BuildFailed, match="does not stop"):
        _do(made, "stop", state)


def test_a_snapshot_that_does_not_complete_fails(made: SeedWorld, shop: Workshop) -> None:
    """Two hours are enough for what a volume may hold."""
    state = _do(made, "snapshot", _stopped(made, shop))
    assert not _do(made, "completed", state)["done"]
    made.pass_time(2 * 3600 + 1)
    with pytest.raises(BuildFailed, match="is pending after"):
        _do(made, "completed", state)


def test_a_large_set_has_more_patience(made: SeedWorld, shop: Workshop) -> None:
    """A builder's time, its dead man's timer and its tag go by what its pulls are expected to
    take.
    """
    shop.images[TRAINER] = replace(shop.images[TRAINER], compressed_bytes=100_000_000_000)
    (build,) = _do(made, "plan", _push())["builds"]
    state = _do(made, "launch", build)
    made.pass_time(90 * 60)
    assert not _do(made, "pulled", state)["done"]
    request = shop.machines[state["builder"]]["request"]
    assert "shutdown -h +112" in request["UserData"]
    made.pass_time(20 * 60)
    with pytest.raises(BuildFailed, match="did not finish"):
        _do(made, "pulled", state)
