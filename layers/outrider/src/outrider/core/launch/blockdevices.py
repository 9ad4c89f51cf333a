"""The volumes of a node: the node class's, or the family's defaults, and a seed where one serves.

Defaults are Karpenter's (F45): AL2023 boots from an encrypted 20 GiB gp3 `/dev/xvda`; Bottlerocket
has 4 GiB for the system and 20 GiB for data on `/dev/xvdb`. A seed becomes the data volume's
snapshot on Bottlerocket and a volume of its own for containerd on AL2023, at least as large as the
seed. A class whose data volume has a snapshot already keeps it: the user's choice is not
overridden.

The initialisation rate is the seed's (300 MiB/s by default, the most EBS allows): a volume that
hydrates lazily starts a 15 GB image in ten minutes. A seed that is fast-restored has none, since
EBS would take the rate and leave the fast restore unused. Refuses to know which seed is best
(`core.seeding`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outrider.apis import quantity
from outrider.apis.nodeclass import BlockDeviceMapping, EC2NodeClass
from outrider.core.catalog.family import (
    BOTTLEROCKET_ROOT_GIB,
    DEFAULT_VOLUME_GIB,
    EPHEMERAL_DEVICE,
    Family,
)
from outrider.core.seeding import Seed
from outrider.core.seeding.estimate import WarmUp

GIB = 1024**3
SEED_DEVICES = tuple(f"/dev/xvd{letter}" for letter in "bcdefghi")
THROUGHPUT = 500  # MiB/s: gp3's base of 125 would make the seed slower than a pull
IOPS = 3000

Device = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Volumes:
    """The block device mappings of a template, and the device that carries the seed, if any."""

    mappings: tuple[Device, ...]
    seed_device: str = ""


def volumes(node_class: EC2NodeClass, family: Family, seed: Seed | None) -> Volumes:
    """Return the volumes of a node of *node_class*, *seed* on one of them where it can be."""
    root = EPHEMERAL_DEVICE[family] or "/dev/xvda"
    mappings = [_mapping(entry, root) for entry in node_class.spec.block_device_mappings]
    if not mappings:
        mappings = _defaults(family)
    if seed is None:
        return Volumes(tuple(mappings))
    if family is Family.BOTTLEROCKET:
        return _seed_data_volume(mappings, seed)
    if family is Family.AL2023:
        return _add_seed_volume(mappings, seed)
    return Volumes(tuple(mappings))


def gibibytes(size: object) -> int:
    """Return a volume size in whole GiB, rounded up, as EBS takes it."""
    return max(1, -(-quantity.whole(size) // GIB))


def _defaults(family: Family) -> list[Device]:
    if family is Family.AL2023:
        return [_volume("/dev/xvda", DEFAULT_VOLUME_GIB)]
    if family is Family.BOTTLEROCKET:
        return [
            _volume("/dev/xvda", BOTTLEROCKET_ROOT_GIB),
            _volume("/dev/xvdb", DEFAULT_VOLUME_GIB),
        ]
    return []


def _volume(device: str, size_gib: int) -> Device:
    return {
        "DeviceName": device,
        "Ebs": {
            "VolumeSize": size_gib,
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
        },
    }


def _mapping(entry: BlockDeviceMapping, unnamed: str) -> Device:
    result: Device = {"DeviceName": entry.device_name or unnamed}
    if entry.ebs is None:
        return result
    ebs = {
        "DeleteOnTermination": (
            True if entry.ebs.delete_on_termination is None else entry.ebs.delete_on_termination
        ),
        "Encrypted": entry.ebs.encrypted,
        "Iops": entry.ebs.iops,
        "KmsKeyId": entry.ebs.kms_key_id,
        "SnapshotId": entry.ebs.snapshot_id,
        "Throughput": entry.ebs.throughput,
        "VolumeInitializationRate": entry.ebs.volume_initialization_rate,
        "VolumeSize": None if entry.ebs.volume_size is None else gibibytes(entry.ebs.volume_size),
        "VolumeType": entry.ebs.volume_type,
    }
    result["Ebs"] = {name: value for name, value in ebs.items() if value is not None}
    return result


def _seeded(ebs: Device, seed: Seed) -> Device:
    fast = ebs.get("VolumeType", "gp3") == "gp3"
    speed = {"Throughput": THROUGHPUT, "Iops": IOPS} if fast else {}
    seeded = {
        **speed,
        **ebs,
        "SnapshotId": seed.snapshot_id,
        "VolumeSize": max(seed.volume_gib, ebs.get("VolumeSize", 0)),
    }
    if seed.warm_up == WarmUp.RATE:
        seeded["VolumeInitializationRate"] = seed.rate
    else:
        seeded.pop("VolumeInitializationRate", None)
    return seeded


def _seed_data_volume(mappings: list[Device], seed: Seed) -> Volumes:
    data = next((entry for entry in mappings if entry["DeviceName"] == SEED_DEVICES[0]), None)
    if data is None:
        data = _volume(SEED_DEVICES[0], seed.volume_gib)
        mappings = [*mappings, data]
    if "SnapshotId" in data.get("Ebs", {}):
        return Volumes(tuple(mappings))
    carrying = {**data, "Ebs": _seeded(data.get("Ebs", {}), seed)}
    return Volumes(
        tuple(carrying if entry is data else entry for entry in mappings), data["DeviceName"]
    )


def _add_seed_volume(mappings: list[Device], seed: Seed) -> Volumes:
    taken = {entry["DeviceName"] for entry in mappings}
    device = next((name for name in SEED_DEVICES if name not in taken), None)
    if device is None:
        return Volumes(tuple(mappings))
    added = _volume(device, seed.volume_gib)
    added["Ebs"] = _seeded(added["Ebs"], seed)
    return Volumes((*mappings, added), device)
