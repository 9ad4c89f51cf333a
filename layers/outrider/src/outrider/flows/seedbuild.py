"""Building a seed: a builder is launched, watched until it has everything, verified, snapshotted.

A builder says that it is done by powering itself off, and what it holds on its console; see
`core.launch.userdata.seeder`. Two executions that want the same seed: the second finds the lock
taken, does nothing and ends well. A stack has so many builders at once (`seed_builders`); a build
that finds them all at work waits its turn.

A step may come late, its execution ended and swept meanwhile: what it made after that is undone by
the step itself, because no sweep will come again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from outrider.apis import duration, labels
from outrider.apis.nodeclass import EC2NodeClass
from outrider.core.catalog.family import Family
from outrider.core.launch import tags
from outrider.core.launch.template import content_hash
from outrider.core.launch.userdata import seeder
from outrider.core.seeding import Image, State, estimate
from outrider.errors import BuildFailed, CapacityError, CloudError, NotFound
from outrider.flows.decisions import publish
from outrider.flows.ports import World

LOCK_MARGIN = timedelta(hours=3)
BUILDER_MARGIN = timedelta(hours=1)
DEAD_MAN_MARGIN = timedelta(minutes=10)
PULL_LEAST = timedelta(minutes=20)
PULL_MARGIN = timedelta(minutes=15)
PULL_FACTOR = 1.5
QUEUE_LIMIT = timedelta(hours=1)
STOP_LIMIT = timedelta(minutes=15)
CONSOLE_LIMIT = timedelta(minutes=10)
SNAPSHOT_LIMIT = timedelta(hours=2)
SNAPSHOT_LIFE = timedelta(days=180)
POLL_SECONDS = 15
STOP_POLL_SECONDS = 5
QUEUE_SECONDS = 60
DONE: Mapping[str, Any] = {"done": True, "wait": 1}

BUILDERS = {  # Nitro, no GPU: an image is unpacked by the processor
    "amd64": ("c6i.2xlarge", "m6i.2xlarge", "c7i.2xlarge", "m7i.2xlarge", "m5.2xlarge"),
    "arm64": ("c7g.2xlarge", "m7g.2xlarge", "c6g.2xlarge", "m6g.2xlarge"),
}

Answer = dict[str, Any]
Carried = Mapping[str, Any]


def launch(carried: Carried, world: World) -> Answer:
    """Take the seed's lock and launch its builder; a repeat finds the one that runs."""
    key, decision = str(carried["seed"]), str(carried["decision"])
    _refuse_if_ended(carried, world)
    locked = (LOCK_MARGIN + _patience(carried)).total_seconds()
    if _is_ready(world, key) or not world.ledger.lock_seed(key, decision, locked):
        world.telemetry.log("somebody else builds it, or it is there", seed=key)
        return {"joined": True, "outcome": "joined", **DONE}
    running = world.cloud.builders(mine(carried))
    if not running and len(world.cloud.builders({})) >= world.settings.seed_builders:
        return _queued(carried, world)
    builder = running[0]["id"] if running else _run(carried, world)
    if ended(carried, world):
        world.cloud.terminate([builder])
        world.ledger.unlock_seed(key, decision)
        _refuse_if_ended(carried, world)
    now = world.clock.now()
    if world.ledger.once(f"seed-started/{decision}/{key}", now + LOCK_MARGIN):
        publish(
            world,
            "SeedStarted",
            decision,
            seed=key,
            images=[image["reference"] for image in carried["images"]],
            reason=carried["reason"],
            builder=builder,
        )
    began = carried.get("began") or duration.stamp(now)
    return {"builder": builder, "began": began, "joined": False, "done": True, "wait": POLL_SECONDS}


def _queued(carried: Carried, world: World) -> Answer:
    now = world.clock.now()
    since = str(carried.get("queued") or duration.stamp(now))
    if now - duration.instant(since) > QUEUE_LIMIT:
        limit = world.settings.seed_builders
        raise BuildFailed(
            f"{limit} builders have been at work for {QUEUE_LIMIT}", "TooManyBuilders"
        )
    return {"joined": False, "done": False, "queued": since, "wait": QUEUE_SECONDS}


def _run(carried: Carried, world: World) -> str:
    """Launch the builder where there is capacity; raise the last refusal where there is none."""
    family, arch = Family(carried["family"]), str(carried["arch"])
    identity = world.cloud.cluster()
    parameter = seeder.builder_image(family, arch, identity.version)
    image = world.cloud.builder_image(parameter)
    if image is None:
        raise NotFound(f"no AMI for a {family} {arch} builder at {parameter}")
    node_class = _class_for(carried, world)
    refusal: CloudError | None = None
    for subnet in [one.id for one in node_class.status.subnets]:
        for instance_type in BUILDERS[arch]:
            try:
                return world.cloud.run_seeder(
                    _run_instances(carried, world, node_class, image, subnet, instance_type)
                )
            except CapacityError as error:
                refusal = error
    raise refusal or NotFound(f"node class {node_class.name} has no subnet for a builder")


def _class_for(carried: Carried, world: World) -> EC2NodeClass:
    state = world.cluster.machines()
    for name in carried["nodeClasses"]:
        found = state.nodeclass(name)
        if found is not None and found.status.subnets:
            return found
    raise NotFound(f"none of the node classes {', '.join(carried['nodeClasses'])} is ready")


def _run_instances(
    carried: Carried,
    world: World,
    node_class: EC2NodeClass,
    image: str,
    subnet: str,
    instance_type: str,
) -> dict[str, Any]:
    family = Family(carried["family"])
    patience = _patience(carried)
    marks = _marks(carried, world, patience + BUILDER_MARGIN)
    dead_man = int((patience + DEAD_MAN_MARGIN).total_seconds() // 60)
    user_data = seeder.render([_image(entry) for entry in carried["images"]], family, dead_man)
    token = [carried["seed"], carried["decision"], image, subnet, instance_type]
    return {
        "ClientToken": content_hash(token, 64),
        "ImageId": image,
        "InstanceType": instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "SubnetId": subnet,
        "SecurityGroupIds": [group.id for group in node_class.status.security_groups],
        "IamInstanceProfile": {"Name": node_class.status.instance_profile or ""},
        "InstanceInitiatedShutdownBehavior": "stop",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "UserData": user_data,
        "BlockDeviceMappings": [
            {
                "DeviceName": seeder.DEVICE,
                "Ebs": {
                    "VolumeSize": int(carried["volumeGiB"]),
                    "VolumeType": "gp3",
                    "Throughput": 1000,
                    "Iops": 4000,
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "TagSpecifications": tags.specifications(
            ("instance", "volume", "network-interface"), marks
        ),
    }


def pulled(carried: Carried, world: World) -> Answer:
    """Say whether the builder has everything, which it shows by powering itself off."""
    builder = _builder(carried, world)
    if builder["state"] == "stopped":
        return dict(DONE)
    if _since(carried, "began", world) > _patience(carried):
        raise BuildFailed(
            f"builder {builder['id']} did not finish within {_patience(carried)}", "TooSlow"
        )
    console = _console(builder, world)
    said = seeder.complaint(console)
    if said:
        raise BuildFailed(f"builder {builder['id']}: {said}", "BuilderFailed")
    return {"done": False, "wait": POLL_SECONDS, "held": seeder.held(console)}


def stop(carried: Carried, world: World) -> Answer:
    """Make sure that the builder stands still: a volume at rest gives a whole snapshot."""
    builder = _builder(carried, world)
    now = duration.stamp(world.clock.now())
    asked = carried.get("stopping") or now
    if builder["state"] == "stopped":
        return {**DONE, "stopping": asked, "stopped": now}
    if _since({**carried, "stopping": asked}, "stopping", world) > STOP_LIMIT:
        raise BuildFailed(f"builder {builder['id']} does not stop", "TooSlow")
    world.cloud.stop_builder(builder["id"])
    return {"done": False, "wait": STOP_POLL_SECONDS, "stopping": asked}


def verify(carried: Carried, world: World) -> Answer:
    """Hold what the builder says that it holds against the plan, digest by digest."""
    builder = _builder(carried, world)
    holds = carried.get("held") or seeder.held(_console(builder, world))
    if holds is None:
        if _since(carried, "stopped", world) > CONSOLE_LIMIT:
            raise BuildFailed(
                f"builder {builder['id']} stopped without saying what it holds", "BuilderSilent"
            )
        return {"done": False, "wait": POLL_SECONDS}
    for image in carried["images"]:
        found = holds.get(image["reference"])
        if found != image["digest"]:
            raise BuildFailed(
                f"{image['reference']}: the builder holds {found or 'nothing'}, "
                f"planned was {image['digest']}",
                "DigestMismatch",
            )
    return {**DONE, "held": None}


def snapshot(carried: Carried, world: World) -> Answer:
    """Snapshot the builder's data volume, once."""
    builder = _builder(carried, world)
    volume = builder["volumes"].get(seeder.DEVICE)
    if not volume:
        raise NotFound(f"builder {builder['id']} has no volume at {seeder.DEVICE}")
    made = world.cloud.create_snapshot(
        volume,
        f"outrider seed {carried['seed']}: {carried['reason']}",
        _marks(carried, world, SNAPSHOT_LIFE),
    )
    if ended(carried, world):
        world.cloud.delete_snapshot(made)
        _refuse_if_ended(carried, world)
    asked = carried.get("copying") or duration.stamp(world.clock.now())
    return {"snapshot": made, "copying": asked, "wait": POLL_SECONDS}


def completed(carried: Carried, world: World) -> Answer:
    """Say whether the snapshot is complete; one that failed is deleted and fails the build."""
    found = {one["id"]: one for one in world.cloud.snapshots({labels.SEED: carried["seed"]})}
    state = found.get(carried["snapshot"], {}).get("state", "pending")
    if state == "error":
        world.cloud.delete_snapshot(carried["snapshot"])
        raise BuildFailed(f"snapshot {carried['snapshot']} failed", "SnapshotFailed")
    if state != "completed" and _since(carried, "copying", world) > SNAPSHOT_LIMIT:
        raise BuildFailed(
            f"snapshot {carried['snapshot']} is {state} after {SNAPSHOT_LIMIT}", "TooSlow"
        )
    return {"done": state == "completed", "wait": POLL_SECONDS}


# --- what the steps share -------------------------------------------------------------------------


def mine(carried: Carried) -> dict[str, str]:
    """Return the tags by which what this build made is found."""
    return {labels.SEED: str(carried["seed"]), labels.DECISION: str(carried["decision"])}


def ended(carried: Carried, world: World) -> bool:
    """Return whether the execution was swept: nobody comes after this step any more."""
    return world.ledger.flagged(flag_of(str(carried["decision"])), world.clock.now())


def flag_of(decision: str) -> str:
    """Return the flag that says that the execution of *decision* has ended."""
    return f"seed-ended-{decision}"


def _refuse_if_ended(carried: Carried, world: World) -> None:
    if ended(carried, world):
        raise BuildFailed("the execution that asked for this has ended", "ExecutionEnded")


def _patience(carried: Carried) -> timedelta:
    """Return how long a builder may take: half as long again as such pulls are expected to."""
    images = {entry["digest"]: _image(entry) for entry in carried["images"]}.values()
    expected = estimate.pull_seconds(
        sum(image.compressed_bytes for image in images),
        sum(image.unpacked_bytes for image in images),
    )
    return max(PULL_LEAST, PULL_MARGIN + timedelta(seconds=round(PULL_FACTOR * expected)))


def _since(carried: Carried, name: str, world: World) -> timedelta:
    said = carried.get(name)
    now = world.clock.now()
    return now - duration.instant(str(said)) if said else timedelta()


def _marks(carried: Carried, world: World, life: timedelta) -> dict[str, str]:
    expires = duration.stamp(world.clock.now() + life)
    settings = world.settings
    made = tags.of_seed(settings.cluster, settings.stack, carried["seed"], expires)
    return {**made, labels.DECISION: carried["decision"]}


def _builder(carried: Carried, world: World) -> Mapping[str, Any]:
    for one in world.cloud.builders(mine(carried)):
        if one["id"] == carried["builder"]:
            return one
    raise NotFound(f"builder {carried['builder']} is gone", "BuilderGone")


def _console(builder: Mapping[str, Any], world: World) -> str:
    try:
        return world.cloud.console(builder["id"], builder["state"])
    except CloudError:
        return ""  # a console that cannot be read says nothing; the limit still holds


def _is_ready(world: World, key: str) -> bool:
    return any(seed.key == key and seed.state == State.READY for seed in world.ledger.seeds())


def _image(entry: Mapping[str, Any]) -> Image:
    return Image(str(entry["reference"]), str(entry["digest"]), int(entry["bytes"]), ())
