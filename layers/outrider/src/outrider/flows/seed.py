"""One step of the seed state machine: plan, launch, watch, snapshot, publish, retire, clean up.

    plan -> each: launch -> pulled* -> stop* -> snapshot -> completed* -> publish -> retire
            -> cleanup

What a step returns joins what the machine carries. Every step can be repeated: the builder is found
by its client token, the snapshot by its tag, the rest is conditional writes. `cleanup` runs after
success and after failure; `sweep` runs behind an execution that timed out or was aborted, where no
Catch runs. All that an execution makes carries its decision, so that it is found again.

A builder says that it is done by powering itself off; see `core.launch.userdata.seeder`. Two
executions that want the same seed: the second finds the lock taken, does nothing and ends well.

Refuses to choose images: `core.seeding` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from outrider.apis import duration, labels
from outrider.apis.nodeclass import EC2NodeClass
from outrider.core import seeding
from outrider.core.catalog.family import Family, family_of
from outrider.core.clusterstate import ClusterState
from outrider.core.launch import tags
from outrider.core.launch.template import content_hash
from outrider.core.launch.userdata import seeder
from outrider.core.seeding import Image, Seed, State, Usage
from outrider.errors import CapacityError, CloudError, NotFound
from outrider.flows.decisions import LISTED, decision_id, publish
from outrider.flows.ports import World

LOCK_SECONDS = 4 * 3600.0
BUILDER_LIFE = timedelta(hours=2)
SNAPSHOT_LIFE = timedelta(days=180)
PULL_LIMIT = timedelta(minutes=45)
SNAPSHOT_LIMIT = timedelta(hours=2)
STILL_LAUNCHING = timedelta(minutes=15)  # an errand may yet launch with a seed that was retired
POLL_SECONDS = 15
STOP_POLL_SECONDS = 5

BUILDERS = {
    "amd64": ("c6i.2xlarge", "m6i.2xlarge", "c7i.2xlarge", "m7i.2xlarge", "m5.2xlarge"),
    "arm64": ("c7g.2xlarge", "m7g.2xlarge", "c6g.2xlarge", "m6g.2xlarge"),
}

Answer = dict[str, Any]
Carried = Mapping[str, Any]


def step(event: Mapping[str, Any], world: World) -> Answer:
    """Run the step that *event* names on what the machine carries; return what changed."""
    try:
        return _STEPS[str(event["step"])](event, world)
    finally:
        world.bus.flush()


# --- what to build --------------------------------------------------------------------------------


def plan(carried: Carried, world: World) -> Answer:
    """Return the seeds to build for the images that pods run; none is a good answer."""
    state = world.cluster.state()
    pushed = _pushed(carried, world)
    wanted = carried.get("images")
    usages = list(_usages(state, pushed))
    names = {
        usage.reference
        for usage, asked, listed in usages
        if seeding.allowed(usage, asked, listed) is None
    }
    images = {name: found for name in sorted(names) if (found := world.cloud.image(name))}
    narrowed = frozenset(pushed) or (frozenset(wanted) if wanted else None)
    builds, refused = seeding.decide(usages, images, world.ledger.seeds(), narrowed or None)
    world.telemetry.log(
        "seeds planned",
        builds=[build.reason for build in builds],
        refused=[f"{one.reference}: {one.reason}" for one in refused[:LISTED]],
    )
    _delete_retired(world)
    execution = str(carried.get("execution") or duration.stamp(world.clock.now()))
    decision = decision_id(world.settings.cluster, "seed", execution)
    if world.settings.mode == "observe":
        builds = ()
    return {"builds": [_carry(build, decision) for build in builds]}


def _carry(build: seeding.Build, decision: str) -> dict[str, Any]:
    return {
        "version": 1,
        "decision": decision,
        "seed": build.key,
        "arch": build.arch,
        "family": build.family,
        "volumeGiB": build.volume_gib,
        "nodeClasses": list(build.node_classes),
        "reason": build.reason,
        "images": [
            {"reference": image.reference, "digest": image.digest, "bytes": image.compressed_bytes}
            for image in build.images
        ],
    }


def _pushed(carried: Carried, world: World) -> dict[str, str]:
    """Return repository -> pushed reference, for an ECR push; nothing for other triggers."""
    detail = carried.get("detail")
    if carried.get("source") != "aws.ecr" or not isinstance(detail, Mapping):
        return {}
    if detail.get("action-type") != "PUSH" or detail.get("result") != "SUCCESS":
        return {}
    account = str(carried.get("account", ""))
    suffix = "amazonaws.com.cn" if world.settings.partition == "aws-cn" else "amazonaws.com"
    host = f"{account}.dkr.ecr.{world.settings.region}.{suffix}"
    name = f"{host}/{detail.get('repository-name', '')}"
    tag = detail.get("image-tag")
    return {name: f"{name}:{tag}" if tag else name}


def _usages(
    state: ClusterState, pushed: Mapping[str, str]
) -> Iterable[tuple[Usage, seeding.Mode, tuple[str, ...]]]:
    """Return which images pods run on nodes of which class, with what the class asks."""
    counted: dict[tuple[str, str], Usage] = {}
    classes: dict[str, EC2NodeClass] = {}
    for pod in state.pods:
        node = state.node(pod.node_name) if pod.node_name else None
        pool = state.nodepool(node.node_pool) if node and node.node_pool else None
        if node is None or pool is None or pod.finished:
            continue
        node_class = state.nodeclass(pool.spec.template.spec.node_class_ref.name)
        if node_class is None:
            continue
        classes[node_class.name] = node_class
        arch = node.labels.get(labels.ARCH, "amd64")
        for reference in pod.images:
            newer = pushed.get(seeding.repository(reference))
            for name in {reference, newer or reference}:
                usage = Usage(
                    reference=name,
                    node_class=node_class.name,
                    family=family_of(node_class) or Family.CUSTOM,
                    architectures=(arch,),
                    private=bool(pod.pull_secrets),
                )
                key = (name, node_class.name)
                counted[key] = _joined(counted.get(key), usage)
    for (_, name), usage in sorted(counted.items()):
        yield usage, *seeding.class_mode(classes[name].metadata.annotations)


def _joined(known: Usage | None, usage: Usage) -> Usage:
    if known is None:
        return usage
    return replace(
        known,
        pods=known.pods + 1,
        private=known.private or usage.private,
        architectures=tuple(sorted({*known.architectures, *usage.architectures})),
    )


# --- building -------------------------------------------------------------------------------------


def launch(carried: Carried, world: World) -> Answer:
    """Take the seed's lock and launch its builder; a repeat finds the one that runs."""
    key, decision = str(carried["seed"]), str(carried["decision"])
    if _is_ready(world, key) or not world.ledger.lock_seed(key, decision, LOCK_SECONDS):
        world.telemetry.log("somebody else builds it, or it is there", seed=key)
        return {"joined": True, "wait": 1}
    running = world.cloud.builders({labels.SEED: key, labels.DECISION: decision})
    builder = running[0]["id"] if running else _run(carried, world)
    if world.ledger.once(f"seed-started/{decision}/{key}", world.clock.now() + BUILDER_LIFE):
        publish(
            world,
            "SeedStarted",
            decision,
            seed=key,
            images=[image["reference"] for image in carried["images"]],
            reason=carried["reason"],
            builder=builder,
        )
    began = carried.get("began") or duration.stamp(world.clock.now())
    return {"builder": builder, "began": began, "wait": POLL_SECONDS}


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
    marks = _marks(carried, world, BUILDER_LIFE)
    user_data = seeder.render([_image(entry) for entry in carried["images"]], family)
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
    if carried.get("joined"):
        return {"done": True, "wait": 1}
    builder = _builder(carried, world)
    if builder["state"] == "stopped":
        return {"done": True, "wait": 1}
    if world.clock.now() - duration.instant(str(carried["began"])) > PULL_LIMIT:
        raise CloudError(f"builder {builder['id']} did not finish within {PULL_LIMIT}", "TooSlow")
    said = seeder.complaint(_console(builder["id"], world))
    if said:
        raise CloudError(f"builder {builder['id']}: {said}", "BuilderFailed")
    return {"done": False, "wait": POLL_SECONDS}


def stop(carried: Carried, world: World) -> Answer:
    """Make sure that the builder stands still: a volume at rest gives a whole snapshot."""
    if carried.get("joined"):
        return {"done": True, "wait": 1}
    builder = _builder(carried, world)
    if builder["state"] == "stopped":
        return {"done": True, "wait": 1}
    world.cloud.stop_builder(builder["id"])
    return {"done": False, "wait": STOP_POLL_SECONDS}


def snapshot(carried: Carried, world: World) -> Answer:
    """Snapshot the builder's data volume, once."""
    if carried.get("joined"):
        return {"wait": 1}
    builder = _builder(carried, world)
    volume = builder["volumes"].get(seeder.DEVICE)
    if not volume:
        raise NotFound(f"builder {builder['id']} has no volume at {seeder.DEVICE}")
    made = world.cloud.create_snapshot(
        volume,
        f"outrider seed {carried['seed']}: {carried['reason']}",
        _marks(carried, world, SNAPSHOT_LIFE),
    )
    return {"snapshot": made, "wait": POLL_SECONDS}


def completed(carried: Carried, world: World) -> Answer:
    """Say whether the snapshot is complete; one that failed is deleted and fails the build."""
    if carried.get("joined"):
        return {"done": True, "wait": 1}
    found = {one["id"]: one for one in world.cloud.snapshots({labels.SEED: carried["seed"]})}
    state = found.get(carried["snapshot"], {}).get("state", "pending")
    if state == "error":
        world.cloud.delete_snapshot(carried["snapshot"])
        raise CloudError(f"snapshot {carried['snapshot']} failed", "SnapshotFailed")
    return {"done": state == "completed", "wait": POLL_SECONDS}


# --- publishing and cleaning up -------------------------------------------------------------------


def publish_seed(carried: Carried, world: World) -> Answer:
    """Write the seed into the ledger: from here on launches use it."""
    if carried.get("joined"):
        return {}
    now = world.clock.now()
    seed = Seed(
        key=carried["seed"],
        arch=carried["arch"],
        family=carried["family"],
        images={image["reference"]: image["digest"] for image in carried["images"]},
        image_bytes={image["reference"]: int(image["bytes"]) for image in carried["images"]},
        snapshot_id=carried["snapshot"],
        volume_gib=int(carried["volumeGiB"]),
        state=State.READY.value,
        node_classes=tuple(carried["nodeClasses"]),
        created=now,
        reason=carried["reason"],
    )
    already = _is_ready(world, seed.key)
    world.ledger.put_seed(seed)
    if not already:
        seconds = (now - duration.instant(str(carried["began"]))).total_seconds()
        world.telemetry.count("SeedsPublished")
        world.telemetry.count("SeedBuildSeconds", seconds)
        publish(
            world,
            "SeedPublished",
            carried["decision"],
            seed=seed.key,
            snapshot=seed.snapshot_id,
            images=sorted(seed.images),
            seconds=seconds,
        )
    return {"published": True}


def retire(carried: Carried, world: World) -> Answer:
    """Retire the seeds that the new one replaces; their snapshots go a little later."""
    if carried.get("joined"):
        return {}
    seeds = world.ledger.seeds()
    newest = next((seed for seed in seeds if seed.key == carried["seed"]), None)
    if newest is None:
        return {}
    now = world.clock.now()
    for old in seeding.superseded(seeds, newest):
        reason = f"replaced by {newest.key}"
        world.ledger.put_seed(replace(old, state=State.RETIRED.value, retired=now, reason=reason))
        publish(
            world,
            "SeedRetired",
            carried["decision"],
            seed=old.key,
            snapshot=old.snapshot_id,
            reason=reason,
        )
    _delete_retired(world)
    return {}


def cleanup(carried: Carried, world: World) -> Answer:
    """Leave nothing behind: builder, volumes, half a snapshot, the lock."""
    key, decision = str(carried["seed"]), str(carried["decision"])
    if not carried.get("joined"):
        _clear(world, key, decision)
    error = carried.get("error")
    if error:
        cause = str(error.get("Cause", error))[:500] if isinstance(error, Mapping) else str(error)
        world.telemetry.count("SeedsFailed")
        publish(world, "SeedFailed", decision, seed=key, reason=cause)
    return {}


def sweep(carried: Carried, world: World) -> Answer:
    """Clean up behind an execution that ended without its own cleanup."""
    decision = decision_id(world.settings.cluster, "seed", carried.get("execution", ""))
    left = {
        str(one["tags"].get(labels.SEED, ""))
        for one in (
            *world.cloud.builders({labels.DECISION: decision}),
            *world.cloud.snapshots({labels.DECISION: decision}),
        )
    } - {""}
    for key in sorted(left):
        _clear(world, key, decision)
    if left and carried.get("status") in {"TIMED_OUT", "ABORTED"}:
        world.telemetry.count("SeedsFailed", len(left))
        for key in sorted(left):
            publish(world, "SeedFailed", decision, seed=key, reason=str(carried["status"]))
    expired = [
        one["id"]
        for one in world.cloud.builders({})
        if _past(one["tags"].get(labels.EXPIRES, ""), world.clock.now())
    ]
    world.cloud.terminate(expired)
    _delete_retired(world)
    return {"swept": sorted(left), "expired": expired}


def _clear(world: World, key: str, decision: str) -> None:
    mine = {labels.SEED: key, labels.DECISION: decision}
    world.cloud.terminate([one["id"] for one in world.cloud.builders(mine)])
    world.cloud.delete_seed_volumes(mine)
    published = {seed.snapshot_id for seed in world.ledger.seeds() if seed.state == State.READY}
    for one in world.cloud.snapshots(mine):
        if one["id"] not in published:
            world.cloud.delete_snapshot(one["id"])
    world.ledger.unlock_seed(key, decision)


def _delete_retired(world: World) -> None:
    """Delete the snapshots of seeds that no launch can be using any more."""
    now = world.clock.now()
    for seed in world.ledger.seeds():
        done = seed.state in {State.RETIRED, State.FAILED} and seed.snapshot_id
        if not done or (seed.retired and now - seed.retired < STILL_LAUNCHING):
            continue
        if world.cloud.delete_snapshot(seed.snapshot_id):
            world.ledger.put_seed(replace(seed, snapshot_id=""))


def _marks(carried: Carried, world: World, life: timedelta) -> dict[str, str]:
    expires = duration.stamp(world.clock.now() + life)
    settings = world.settings
    made = tags.of_seed(settings.cluster, settings.stack, carried["seed"], expires)
    return {**made, labels.DECISION: carried["decision"]}


def _builder(carried: Carried, world: World) -> Mapping[str, Any]:
    mine = {labels.SEED: carried["seed"], labels.DECISION: carried["decision"]}
    for one in world.cloud.builders(mine):
        if one["id"] == carried["builder"]:
            return one
    raise NotFound(f"builder {carried['builder']} is gone", "BuilderGone")


def _console(instance_id: str, world: World) -> str:
    try:
        return world.cloud.console(instance_id)
    except CloudError:
        return ""  # a console that cannot be read says nothing; the limit still holds


def _is_ready(world: World, key: str) -> bool:
    return any(seed.key == key and seed.state == State.READY for seed in world.ledger.seeds())


def _image(entry: Mapping[str, Any]) -> Image:
    return Image(str(entry["reference"]), str(entry["digest"]), int(entry["bytes"]), ())


def _past(expires: str, now: datetime) -> bool:
    return bool(expires) and duration.instant(expires) <= now


_STEPS: Mapping[str, Callable[[Carried, World], Answer]] = {
    "plan": plan,
    "launch": launch,
    "pulled": pulled,
    "stop": stop,
    "snapshot": snapshot,
    "completed": completed,
    "publish": publish_seed,
    "retire": retire,
    "cleanup": cleanup,
    "sweep": sweep,
}
