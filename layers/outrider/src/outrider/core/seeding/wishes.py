"""What a node class asks about seeding, and why its nodes cannot be seeded where they cannot.

The annotation `outrider.dev/seed` on an EC2NodeClass says `auto` (the default), `off`, `private`,
or lists images. Annotations are no part of a class's hash, so that nothing drifts by them.

A class is refused, with its reason, where a seed would be invisible to its nodes: an AMI family
whose containerd we do not mount, another snapshotter than the one the seed was unpacked with, a
data volume that the user makes of a snapshot of their own.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from outrider.apis import labels
from outrider.core.catalog.family import Family
from outrider.core.seeding.images import repository, same_image
from outrider.core.seeding.seed import SNAPSHOTTER

if TYPE_CHECKING:
    from outrider.apis.nodeclass import EC2NodeClass

SEEDABLE = frozenset({Family.AL2023, Family.BOTTLEROCKET})
ECR = ".dkr.ecr."  # by itself only the registry that our role reads is looked at

_SOCI = re.compile(r"FastImagePull[\"']?\s*:\s*true|snapshotter\s*=\s*[\"']soci[\"']")


class Mode(StrEnum):
    """What a node class's `outrider.dev/seed` says."""

    AUTO = "auto"
    OFF = "off"
    PRIVATE = "private"
    LISTED = "listed"


def mode(text: str | None) -> tuple[Mode, tuple[str, ...]]:
    """Return what the *text* of an annotation asks, and the images it lists."""
    said = (text or Mode.AUTO).strip() or Mode.AUTO.value
    if said in {Mode.AUTO, Mode.OFF, Mode.PRIVATE}:
        return Mode(said), ()
    return Mode.LISTED, tuple(filter(None, (part.strip() for part in said.split(","))))


def asked_by(node_class: EC2NodeClass) -> tuple[Mode, tuple[str, ...]]:
    """Return what *node_class* asks by its annotation."""
    return mode(node_class.metadata.annotations.get(labels.SEED))


def snapshotter_of(user_data: str | None) -> str:
    """Return the snapshotter that *user_data* sets up; SOCI's store cannot see an overlayfs one."""
    return "soci" if _SOCI.search(user_data or "") else SNAPSHOTTER


def obstacle(node_class: EC2NodeClass, family: Family) -> str:
    """Return why nodes of *node_class* cannot be seeded; "" where they can."""
    if family not in SEEDABLE:
        return f"a node of AMI family {family} cannot be seeded"
    snapshotter = snapshotter_of(node_class.spec.user_data)
    if snapshotter != SNAPSHOTTER:
        return f"its nodes use the {snapshotter} snapshotter, which does not see {SNAPSHOTTER}'s"
    if family is Family.BOTTLEROCKET:
        for entry in node_class.spec.block_device_mappings:
            if entry.device_name == "/dev/xvdb" and entry.ebs and entry.ebs.snapshot_id:
                return f"its data volume is made of {entry.ebs.snapshot_id} already"
    return ""


def unwelcome(reference: str, asked: Mode, listed: tuple[str, ...], *, private: bool) -> str | None:
    """Return why a class that asks *asked* does not have an image seeded; None where it does."""
    if asked is Mode.OFF:
        return "the node class has outrider.dev/seed: off"
    if asked is Mode.AUTO and ECR not in reference:
        return "it is not in ECR; list it in outrider.dev/seed to have it seeded"
    if asked is Mode.LISTED and not any(same_image(reference, name) for name in listed):
        return "the node class lists other images"
    if private and asked is not Mode.PRIVATE:
        return "the image is private and the node class does not say outrider.dev/seed: private"
    return None


def touches(reference: str, names: frozenset[str]) -> bool:
    """Return whether *reference* is one of the pushed or asked-for *names*."""
    own = repository(reference)
    return any(own == name or same_image(reference, name) for name in names)
