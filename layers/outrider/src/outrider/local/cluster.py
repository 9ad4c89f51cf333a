"""The Kubernetes side of the cloud: the embedded API, its kubelets, and the machines they run on.

Turns what EC2 knows of a running instance into what a kubelet needs to know, and tells the kubelets
when machines come and go. Refuses to know what runs on them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.instances import Instances
from outrider.local.kube import Faults, Gpu, InstanceFacts, KubeAPI, Kubelets
from outrider.local.kube.nearby import Respond
from outrider.local.market import ZONES, facts
from outrider.local.region import ACCOUNT, REGION
from outrider.local.seeds import SEED_TAG, images_on
from outrider.local.timeline import Timeline

Authenticate = Callable[[str], tuple[str, list[str]] | None]
_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}


class Cluster(Protocol):
    """What the cloud asks of its cluster, embedded or not."""

    url: str
    ca_pem: str
    respond: Respond | None  # what answers at the url without a socket, where that runs here

    def start(self) -> None:
        """Serve, and listen for machines."""

    def stop(self) -> None:
        """Stop serving."""

    def kubeconfig(self) -> str:
        """Return a kubeconfig for the administrator."""

    def set_faults(self, wanted: Mapping[str, Any]) -> None:
        """Take the faults of nodes."""

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Create or update objects as an administrator."""

    def webhook(self, url: str) -> str:
        """Return the address at which the API server reaches the webhook of *url*."""

    @property
    def ca_bundle(self) -> str | None:
        """Return the authority behind the webhook's address, None where it needs none."""

    @property
    def api(self) -> Any:
        """Return the API itself."""


class Machines:
    """Tells the kubelets what becomes of the account's instances."""

    def __init__(self, cluster: str, kubelets: Kubelets, instances: Instances) -> None:
        self._cluster = cluster
        self._kubelets = kubelets
        self._instances = instances

    def listen(self) -> None:
        """Follow every instance from now on."""
        self._instances.on_state.append(self._changed)

    def _changed(self, instance: Any, state: str) -> None:
        """Pass a state on; other clusters' instances and seed builders run no kubelet of ours."""
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        if f"kubernetes.io/cluster/{self._cluster}" not in tags or SEED_TAG in tags:
            return
        if state == "running":
            facts = described(instance, self._instances.endpoint)
            self._kubelets.instance_running(facts)
        elif state in ("shutting-down", "stopping"):
            self._kubelets.instance_stopping(instance.id)
        elif state in ("terminated", "stopped"):
            self._kubelets.instance_gone(instance.id)


class EmbeddedCluster:
    """The embedded Kubernetes API, with kubelets for the instances of the account."""

    def __init__(
        self,
        clock: Clock,
        timeline: Timeline,
        *,
        authenticate: Authenticate,
        name: str,
        seed: int,
        instances: Instances,
    ) -> None:
        self.api = KubeAPI(clock, timeline, authenticate=authenticate, cluster_name=name, seed=seed)
        self._machines = Machines(name, self.api.kubelets, instances)
        self.url = ""
        self.respond: Respond | None = self.api.answer
        self.ca_pem = self.api.ca_pem
        self.ca_bundle: str | None = None

    def start(self) -> None:
        """Serve the API and listen for machines."""
        self.url = self.api.start(0)
        self._machines.listen()

    def stop(self) -> None:
        """Stop serving."""
        self.api.stop()

    def kubeconfig(self) -> str:
        """Return a kubeconfig for the administrator."""
        return self.api.kubeconfig()

    def set_faults(self, wanted: Mapping[str, Any]) -> None:
        """Take the faults of nodes that join late, never, or without their devices."""
        keys = ("joinDelaySeconds", "neverJoin", "neverInitialize")
        self.api.faults = Faults.of({key: wanted[key] for key in keys if key in wanted})

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Create or update objects as an administrator."""
        self.api.apply(*(dict(one) for one in objects))

    def webhook(self, url: str) -> str:
        """Return *url*: the embedded API calls plain HTTP on loopback too."""
        return url


def described(instance: Any, endpoint: Endpoint) -> InstanceFacts:
    """Return what a kubelet on *instance* can know of its machine."""
    of_type = facts(instance.instance_type) or {}
    network = of_type.get("NetworkInfo", {})
    cards = network.get("NetworkCards") or [{}]
    neuron = of_type.get("NeuronInfo", {}).get("NeuronDevices", [])
    gpu_info = of_type.get("GpuInfo", {}).get("Gpus", [])
    processor = of_type.get("ProcessorInfo", {}).get("SupportedArchitectures", ["x86_64"])
    with endpoint.lock:
        gib, snapshot_id, images, images_at = _data_volume(instance)
    return InstanceFacts(
        instance_id=instance.id,
        instance_type=instance.instance_type,
        zone=instance.availability_zone,
        zone_id=ZONES.get(instance.availability_zone, ""),
        private_ip=instance.private_ip,
        private_dns=instance.private_dns_name,
        arch=_ARCHITECTURES.get(processor[0], "amd64"),
        vcpus=int(of_type["VCpuInfo"]["DefaultVCpus"]),
        memory_mib=int(of_type["MemoryInfo"]["SizeInMiB"]),
        user_data=_decoded(instance.user_data),
        lifecycle=instance.lifecycle or "on-demand",
        gpus=tuple(
            Gpu(
                name=gpu["Name"],
                manufacturer=gpu["Manufacturer"],
                count=int(gpu["Count"]),
                memory_mib=int(gpu.get("MemoryInfo", {}).get("SizeInMiB", 0)),
            )
            for gpu in gpu_info
        ),
        neuron_devices=sum(int(device["Count"]) for device in neuron),
        neuron_cores=sum(
            int(device["Count"]) * int(device.get("CoreInfo", {}).get("Count", 0))
            for device in neuron
        ),
        efas=int(network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0)),
        enis=int(cards[0].get("MaximumNetworkInterfaces") or network["MaximumNetworkInterfaces"]),
        ipv4_per_eni=int(network["Ipv4AddressesPerInterface"]),
        nvme_gb=int(of_type.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)),
        data_volume_gib=gib,
        snapshot_id=snapshot_id,
        account=ACCOUNT,
        region=REGION,
        images=images,
        images_at=images_at,
        ami=instance.image_id,
    )


def _decoded(user_data: Any) -> str:
    return base64.b64decode(str(user_data or "")).decode("utf-8", "replace")


def _data_volume(instance: Any) -> tuple[int, str, frozenset[str], float | None]:
    """Return the volume that holds images: Bottlerocket's and seeds' second one, else the root.

    Its size, its snapshot, the images on that, and when their blocks are there.
    """
    root = 20
    for device, attachment in instance.get_block_device_mapping:
        volume = instance.ec2_backend.volumes.get(attachment.volume_id)
        if volume is None:
            continue
        if device == instance.root_device_name and not volume.snapshot_id:
            root = int(volume.size)
        else:
            snapshot = instance.ec2_backend.snapshots.get(volume.snapshot_id)
            images_at = getattr(volume, "outrider_blocks_at", 0.0)
            return int(volume.size), volume.snapshot_id or "", images_on(snapshot), images_at
    return root, "", frozenset(), 0.0
