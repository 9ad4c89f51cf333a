"""The account as a seed builder sees it: a registry, builders, snapshots, fast restores, locks.

Not faked: what the flows decide of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from outrider.apis import labels, manifest
from outrider.apis.node import Node
from outrider.core.launch.userdata import seeder
from outrider.core.seeding import Image
from outrider.errors import CloudError, NotFound
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
        self.trouble: dict[str, CloudError] = {}

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
        cloud.fast_restores = self.fast_restores
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

    def fast_restores(self, snapshot: str) -> Mapping[str, str]:
        """Return the states of the zones."""
        del snapshot
        if self.trouble.get("fast_restores"):
            raise self.trouble["fast_restores"]
        return dict(self.fast)

    def refuse(self, method: str, error: CloudError) -> None:
        """Let *method* fail from now on."""
        self.trouble[method] = error

    def meanwhile(self, method: str, happens: Callable[[], object]) -> None:
        """Let something happen while *method* is under way: just before it takes effect."""
        cloud: Any = self.made.cloud
        original = getattr(cloud, method)

        def interrupted(*args: Any) -> Any:
            happens()
            return original(*args)

        setattr(cloud, method, interrupted)

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


class SeedWorld(MarketWorld):
    """A world whose ledger has build locks."""

    ledger: LockedLedger


def running_trainer() -> SeedWorld:
    """Return a cluster in which a pod of pool `gpu` runs the trainer."""
    world = SeedWorld()
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
