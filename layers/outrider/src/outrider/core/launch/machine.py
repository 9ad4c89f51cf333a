"""What a machine of one node class is launched with: image, template and user data, by type.

The launches of one plan share most of it: an image goes by the type, a template by network, volumes
and reservation, user data by labels, taints, max pods and storage. Each is made once and kept for
the plan; a hundred launches of sixty types in three zones would otherwise write the same text
18,000 times.

Refuses to know zones, prices and how many are launched (`core.launch.fleet`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.apis import labels
from outrider.apis.nodeclass import EC2NodeClass
from outrider.apis.placement import Taint
from outrider.core.catalog.capacity import kubelet_of
from outrider.core.catalog.family import Family
from outrider.core.catalog.instancetype import InstanceType
from outrider.core.launch import blockdevices, images, network, template
from outrider.core.launch.bootstrap import ClusterIdentity, NodeBootstrap
from outrider.core.launch.template import Reservation, TemplateRequest
from outrider.core.launch.userdata import bottlerocket, custom, nodeadm
from outrider.core.seeding import Seed, best_seed
from outrider.core.seeding.wishes import snapshotter_of
from outrider.errors import InvalidManifest

USER_DATA_BYTES = 16384

_DIALECTS = {
    Family.AL2023: nodeadm.render,
    Family.BOTTLEROCKET: bottlerocket.render,
    Family.CUSTOM: custom.render,
}


@dataclass(frozen=True, slots=True)
class Kit:
    """A template, and the user data to send beside it."""

    template: TemplateRequest
    user_data: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What a launch asks of its machines, whichever type it gets."""

    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    images: frozenset[str]
    efa: bool


class Workbench:
    """Makes the kits of one *node_class*, each once."""

    def __init__(
        self,
        node_class: EC2NodeClass,
        family: Family,
        cluster: ClusterIdentity,
        stack: str,
        types: Mapping[str, InstanceType],
        seeds: Sequence[Seed],
    ) -> None:
        self._class = node_class
        self._family = family
        self._cluster = cluster
        self._stack = stack
        self._types = types
        self._seeds = tuple(seeds)
        status = node_class.status
        self._groups = [group.id for group in status.security_groups]
        self._profile = status.instance_profile or node_class.spec.instance_profile or ""
        self._kinds = {entry.id: entry.reservation_type for entry in status.capacity_reservations}
        self._images: dict[str, str | None] = {}
        self._arches: dict[str, str] = {}
        self._chosen: dict[tuple[frozenset[str], str], Seed | None] = {}
        self._templates: dict[Any, TemplateRequest] = {}
        self._texts: dict[Any, str] = {}

    def is_block(self, reservation_id: str | None) -> bool:
        """Return whether a reservation is a capacity block."""
        return self._kinds.get(reservation_id or "") == template.CAPACITY_BLOCK

    def image(self, instance_type: str) -> str | None:
        """Return the AMI that a type boots; None where the class has none for it."""
        if instance_type not in self._images:
            kind = self._types.get(instance_type)
            found = kind.requirements.labels() if kind else {}
            self._arches[instance_type] = found.get(labels.ARCH, "amd64")
            self._images[instance_type] = images.choose(self._class.status.amis, found)
        return self._images[instance_type]

    def kit(
        self, instance_type: str, wish: Wish, max_pods: int | None, reservation_id: str | None
    ) -> Kit:
        """Return what a machine of *instance_type* is launched with."""
        kind = self._types.get(instance_type)
        ec2 = kind.ec2 if kind else None
        seed = self._seed(instance_type, wish.images)
        volumes = blockdevices.volumes(self._class, self._family, seed)
        interfaces = network.interfaces(
            self._class, self._groups, ec2, efa=wish.efa, ipv6=self._cluster.ipv6
        )
        shape = repr(interfaces) if wish.efa else ""  # without EFA it is the class's alone
        key = (shape, seed.snapshot_id if seed else "", reservation_id)
        if key not in self._templates:
            self._templates[key] = template.build(
                self._cluster.name,
                self._stack,
                self._class,
                groups=self._groups,
                profile=self._profile,
                devices=volumes.mappings,
                interfaces=interfaces,
                reservation=self._reservation(reservation_id),
            )
        nvme = self._class.spec.instance_store_policy == "RAID0" and bool(ec2 and ec2.nvme_gb)
        text = self._user_data(wish, max_pods, volumes.seed_device, nvme=nvme)
        return Kit(self._templates[key], text)

    def _seed(self, instance_type: str, wanted: frozenset[str]) -> Seed | None:
        if not wanted or not self._seeds:
            return None
        self.image(instance_type)
        key = (wanted, self._arches[instance_type])
        if key not in self._chosen:
            self._chosen[key] = best_seed(
                wanted,
                key[1],
                self._family.value,
                self._seeds,
                self._class.name,
                snapshotter_of(self._class.spec.user_data),
            )
        return self._chosen[key]

    def _reservation(self, reservation_id: str | None) -> Reservation | None:
        if not reservation_id:
            return None
        return Reservation(reservation_id, self._kinds.get(reservation_id) or "default")

    def _user_data(self, wish: Wish, max_pods: int | None, device: str, *, nvme: bool) -> str:
        key = (tuple(sorted(wish.labels.items())), wish.taints, max_pods, device, nvme)
        if key not in self._texts:
            node = NodeBootstrap(
                cluster=self._cluster,
                labels=wish.labels,
                taints=wish.taints,
                max_pods=max_pods,
                kubelet=kubelet_of(self._class),
                local_storage=nvme,
                seeded=bool(device),
                seed_device=device,
            )
            text = _DIALECTS[self._family](node, self._class.spec.user_data)
            if len(text.encode()) > USER_DATA_BYTES:
                raise InvalidManifest(
                    "is over 16 KB together with ours",
                    path="spec.userData",
                    thing=f"EC2NodeClass {self._class.name}",
                )
            self._texts[key] = text
        return self._texts[key]
