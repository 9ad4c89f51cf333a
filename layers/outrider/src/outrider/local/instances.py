"""Instances, volumes and snapshots through time: pending to running, shutting-down to terminated.

moto keeps them; it knows no time in between. This module launches into moto with everything that a
launch template and an override say (moto's own CreateFleet drops most of it), moves states on the
clock, and says each change as EC2 does: a state-change event, an EBS snapshot notification. Whoever
runs the machines (the kubelets) listens. Refuses to know why an instance is launched.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from outrider.local.aws import Endpoint
from outrider.local.clock import Clock
from outrider.local.market import facts, offered
from outrider.local.region import ACCOUNT, REGION
from outrider.local.timeline import Timeline
from outrider.local.wire import Call, Refused

# About what EC2 takes; the kubelet's boot comes on top.
PENDING_SECONDS = (2.0, 5.0)
SHUTTING_DOWN_SECONDS = (3.0, 6.0)
STOPPING_SECONDS = (3.0, 6.0)
SNAPSHOT_SECONDS_PER_GIB = 0.5
SNAPSHOT_LEAST_SECONDS = 5.0
CODES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
LARGEST_USER_DATA = 16_384


@dataclass(frozen=True, slots=True)
class Launch:
    """One instance to be: launch template data with an override over it, and where it goes."""

    data: Mapping[str, Any]
    instance_type: str
    subnet_id: str
    capacity_type: str
    tags: Mapping[str, Mapping[str, str]]
    reservation_id: str | None = None


@dataclass(slots=True)
class Instances:
    """Every instance of the account."""

    endpoint: Endpoint
    clock: Clock
    timeline: Timeline
    client: Callable[[str], Any]
    publish: Callable[[str, str, dict[str, Any], list[str]], None]
    dice: random.Random
    on_state: list[Callable[[Any, str], None]] = field(default_factory=list)
    reservations: dict[str, str] = field(default_factory=dict)
    capacity_types: dict[str, str] = field(default_factory=dict)
    # How long a seeded volume's blocks take to arrive in a zone; None: as they are read.
    blocks: Callable[[Any, str], float | None] = lambda _volume, _zone: None
    _tokens: dict[str, str] = field(default_factory=dict)

    def install(self) -> None:
        """Answer the operations that begin, change or end an instance or a snapshot."""
        serve = self.endpoint.serve
        serve("ec2:RunInstances", self._run)
        serve("ec2:TerminateInstances", self._terminate)
        serve("ec2:StopInstances", self._stop)
        serve("ec2:StartInstances", self._start)
        # A fleet's every instance is described each minute, and seldom has anything changed.
        self.endpoint.remember("ec2:DescribeInstances", until="ec2")
        self.endpoint.after("ec2:CreateSnapshot", self._snapshot_made)
        self.endpoint.after("ec2:CreateSnapshots", self._snapshot_made)
        self.endpoint.after("ec2:CopySnapshot", self._snapshot_made)

    @property
    def backend(self) -> Any:
        """Return moto's EC2; take the endpoint's lock around it."""
        from moto.ec2.models import ec2_backends

        return ec2_backends[ACCOUNT][REGION]

    def find(self, instance_id: str) -> Any:
        """Return moto's instance, or None."""
        with self.endpoint.lock:
            for reservation in self.backend.reservations.values():
                for instance in reservation.instances:
                    if instance.id == instance_id:
                        return instance
        return None

    def launch(self, wanted: Launch) -> Any:
        """Launch one instance, pending at first; raise EC2's error where it cannot be."""
        data = wanted.data
        if facts(wanted.instance_type) is None:
            raise Refused(
                "InvalidInstanceType", f"The instance type '{wanted.instance_type}' does not exist"
            )
        from moto.core.types import Base64EncodedString

        image_id = str(data.get("ImageId") or "")
        with self.endpoint.lock:
            self._check_image(image_id)
            user_data = data.get("UserData")
            if user_data and len(str(user_data)) > LARGEST_USER_DATA * 4 / 3 + 4:
                raise Refused("InvalidUserData.Malformed", "User data is limited to 16384 bytes")
            interfaces = self._interfaces(data, wanted.subnet_id)
            reservation = self.backend.run_instances(
                image_id=image_id,
                count=1,
                user_data=None if user_data is None else Base64EncodedString(str(user_data)),
                security_group_names=[],
                security_group_ids=list(data.get("SecurityGroupIds") or []),
                instance_type=wanted.instance_type,
                is_instance_type_default=False,
                region_name=REGION,
                subnet_id=wanted.subnet_id,
                key_name=data.get("KeyName"),
                nics=interfaces,
                tags={kind: dict(tags) for kind, tags in wanted.tags.items()},
                block_device_mappings=self._devices(image_id, data),
                metadata_options=dict(data.get("MetadataOptions") or {}),
                lifecycle="spot" if wanted.capacity_type == "spot" else None,
            )
            instance = reservation.instances[0]
            if profile := data.get("IamInstanceProfile"):
                self._profile(instance, profile)
            for interface in instance.nics.values():
                interface.add_tags(dict(wanted.tags.get("network-interface", {})))
                interface.delete_on_termination = True  # as those that a launch makes are on EC2
            self._hydrate(instance, data)
            self._set(instance, "pending")
        self.capacity_types[instance.id] = wanted.capacity_type
        if wanted.reservation_id:
            self.reservations[instance.id] = wanted.reservation_id
        return instance

    def _hydrate(self, instance: Any, data: Mapping[str, Any]) -> None:
        """Say of each volume that holds images when its blocks are there."""
        asked = {
            one["DeviceName"]: one.get("Ebs") or {} for one in data.get("BlockDeviceMappings") or ()
        }
        for device, attachment in instance.get_block_device_mapping:
            volume = self.backend.volumes.get(attachment.volume_id)
            snapshot = self.backend.snapshots.get(volume.snapshot_id) if volume else None
            if volume is None or not getattr(snapshot, "outrider_images", None):
                continue
            volume.outrider_rate = asked.get(device, {}).get("VolumeInitializationRate")
            volume.outrider_bytes = getattr(snapshot, "outrider_bytes", 0)
            wait = self.blocks(volume, instance.availability_zone)
            volume.outrider_blocks_at = None if wait is None else self.clock.at() + wait

    def begin(self, instance: Any) -> None:
        """Say that a launched instance is pending, and let it become running."""
        self._changed(instance, "pending")
        self.clock.call_later(
            self.dice.uniform(*PENDING_SECONDS),
            lambda: self._becomes(instance, "running", "pending"),
        )

    def end(self, instance: Any, *, why: str = "") -> None:
        """Take an instance down: shutting-down now, terminated some seconds later."""
        if instance.state in ("terminated", "shutting-down"):
            return
        self.timeline.record("terminate", instance=instance.id, why=why)
        with self.endpoint.lock:
            self._set(instance, "shutting-down")
        self._changed(instance, "shutting-down")

        def gone() -> None:
            with self.endpoint.lock:
                instance.terminate()
            self._changed(instance, "terminated")

        self.clock.call_later(self.dice.uniform(*SHUTTING_DOWN_SECONDS), gone)

    def _check_image(self, image_id: str) -> None:
        if not image_id:
            raise Refused("MissingParameter", "The request must contain the parameter ImageId")
        if image_id not in self.backend.amis:
            raise Refused("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")

    def _devices(self, image_id: str, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the volumes of an instance: the image's root, the template's over it."""
        root = self.backend.amis[image_id].root_device_name
        devices: dict[str, dict[str, Any]] = {
            root: {"VolumeSize": 8, "VolumeType": "gp3", "DeleteOnTermination": True}
        }
        for device in data.get("BlockDeviceMappings") or []:
            ebs = device.get("Ebs")
            if ebs is None:
                devices.pop(device["DeviceName"], None)
                continue
            merged = {**devices.get(device["DeviceName"], {}), **ebs}
            merged.setdefault("DeleteOnTermination", True)
            merged.setdefault("VolumeType", "gp3")
            if snapshot_id := merged.get("SnapshotId"):
                self._check_snapshot(snapshot_id, merged)
            devices[device["DeviceName"]] = merged
        return [{"DeviceName": name, "Ebs": ebs} for name, ebs in devices.items()]

    def _check_snapshot(self, snapshot_id: str, ebs: dict[str, Any]) -> None:
        snapshot = self.backend.snapshots.get(snapshot_id)
        if snapshot is None:
            raise Refused(
                "InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist."
            )
        if snapshot.status != "completed":
            raise Refused("IncorrectState", f"Snapshot {snapshot_id} is in state {snapshot.status}")
        size = int(snapshot.volume.size)
        if int(ebs.setdefault("VolumeSize", size)) < size:
            raise Refused(
                "InvalidBlockDeviceMapping",
                f"Volume of size {ebs['VolumeSize']}GB is smaller than snapshot "
                f"'{snapshot_id}', expect size >= {size}GB",
            )

    def _interfaces(self, data: Mapping[str, Any], subnet_id: str) -> list[dict[str, Any]]:
        """Return moto's view of the interfaces: those of card 0, with the subnet filled in."""
        wanted = [dict(one) for one in data.get("NetworkInterfaces") or []]
        if wanted and data.get("SecurityGroupIds"):
            raise Refused(
                "InvalidParameterCombination",
                "Network interfaces and an instance-level security groups may not be specified "
                "on the same request",
            )
        seen: dict[int, dict[str, Any]] = {}
        for interface in wanted:
            interface.setdefault("SubnetId", subnet_id)
            interface["DeviceIndex"] = len(seen)
            interface.setdefault("DeleteOnTermination", True)
            seen[len(seen)] = interface
        return list(seen.values())

    def _profile(self, instance: Any, profile: Mapping[str, str]) -> None:
        name = profile.get("Name") or str(profile.get("Arn", "")).rpartition("/")[2]
        try:
            self.backend.associate_iam_instance_profile(
                instance_id=instance.id, iam_instance_profile_name=name
            )
        except Exception as error:
            self._set(instance, "running")
            instance.terminate()
            raise Refused(
                "InvalidParameterValue",
                f"Value ({name}) for parameter iamInstanceProfile.name is invalid. "
                "Invalid IAM Instance Profile name",
            ) from error

    def _set(self, instance: Any, state: str) -> None:
        instance._state.name = state
        instance._state.code = CODES[state]
        self.endpoint.changed("ec2")

    def _becomes(self, instance: Any, state: str, from_state: str) -> None:
        if instance.state != from_state:
            return
        with self.endpoint.lock:
            if state == "running":
                instance.start()
            elif state == "stopped":
                instance.stop()
        self._changed(instance, state)

    def _changed(self, instance: Any, state: str) -> None:
        self.endpoint.changed("ec2")
        self.timeline.record(
            "instance",
            id=instance.id,
            state=state,
            type=instance.instance_type,
            zone=instance.availability_zone,
            capacityType=self.capacity_types.get(instance.id, "on-demand"),
        )
        for tell in self.on_state:
            tell(instance, state)
        self.publish(
            "aws.ec2",
            "EC2 Instance State-change Notification",
            {"instance-id": instance.id, "state": state},
            [f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{instance.id}"],
        )

    def _named(self, wanted: dict[str, Any]) -> list[Any]:
        found: list[Any] = []
        missing: list[str] = []
        for instance_id in wanted.get("InstanceIds", []):
            instance = self.find(instance_id)
            if instance is None:
                missing.append(str(instance_id))
            else:
                found.append(instance)
        if missing:
            listed = ", ".join(missing)
            plural = "s" if len(missing) > 1 else ""
            raise Refused(
                "InvalidInstanceID.NotFound",
                f"The instance ID{plural} '{listed}' do{'' if plural else 'es'} not exist",
            )
        return found

    def _moved(
        self, wanted: dict[str, Any], key: str, move: Callable[[Any], None]
    ) -> dict[str, Any]:
        """Answer an operation that moves instances from one state to another."""
        instances = self._named(wanted)
        if wanted.get("DryRun"):
            raise Refused(
                "DryRunOperation", "Request would have succeeded, but DryRun flag is set."
            )
        rows = []
        for instance in instances:
            before = instance.state
            move(instance)
            rows.append(
                {
                    "InstanceId": instance.id,
                    "PreviousState": {"Name": before, "Code": CODES[before]},
                    "CurrentState": {"Name": instance.state, "Code": CODES[instance.state]},
                }
            )
        return {key: rows}

    def _terminate(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        return self._moved(wanted, "TerminatingInstances", lambda one: self.end(one, why="api"))

    def power_off(self, instance: Any) -> None:
        """Stop an instance, as its own `poweroff` or StopInstances does; one that is down stays."""
        if instance.state not in ("running", "pending"):
            return
        with self.endpoint.lock:
            self._set(instance, "stopping")
        self._changed(instance, "stopping")
        self.clock.call_later(
            self.dice.uniform(*STOPPING_SECONDS),
            lambda: self._becomes(instance, "stopped", "stopping"),
        )

    def _stop(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        return self._moved(wanted, "StoppingInstances", self.power_off)

    def _start(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        def start(instance: Any) -> None:
            if instance.state != "stopped":
                return
            with self.endpoint.lock:
                self._set(instance, "pending")
            self.begin(instance)

        return self._moved(wanted, "StartingInstances", start)

    def _run(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        """Answer RunInstances, idempotently by its client token."""
        token = wanted.get("ClientToken") or ""
        if token not in self._tokens or not token:
            data = {**self.template_data(wanted.get("LaunchTemplate")), **wanted}
            tags = merged_tags(data.get("TagSpecifications"), wanted.get("TagSpecifications"))
            market = data.get("InstanceMarketOptions", {}).get("MarketType")
            subnet = data.get("SubnetId") or self._interface_subnet(data) or self.first_subnet()
            launches = Launch(
                data=data,
                instance_type=str(data.get("InstanceType") or "m5.large"),
                subnet_id=subnet,
                capacity_type="spot" if market == "spot" else "on-demand",
                tags=tags,
            )
            zone = self.backend.get_subnet(subnet).availability_zone
            if facts(launches.instance_type) and not offered(launches.instance_type, zone):
                raise Refused(
                    "Unsupported",
                    f"Your requested instance type ({launches.instance_type}) is not supported in "
                    f"your requested Availability Zone ({zone}).",
                )
            if wanted.get("DryRun"):
                raise Refused(
                    "DryRunOperation", "Request would have succeeded, but DryRun flag is set."
                )
            made = [self.launch(launches) for _ in range(int(wanted.get("MaxCount", 1)))]
            for instance in made:
                self.begin(instance)
            self._tokens[token] = ",".join(instance.id for instance in made)
        shown = self.client("ec2").describe_instances(InstanceIds=self._tokens[token].split(","))
        first: dict[str, Any] = dict(shown["Reservations"][0])
        first["Instances"] = [
            instance for one in shown["Reservations"] for instance in one["Instances"]
        ]
        return first

    def _interface_subnet(self, data: Mapping[str, Any]) -> str:
        for interface in data.get("NetworkInterfaces") or []:
            if interface.get("SubnetId"):
                return str(interface["SubnetId"])
        return ""

    def first_subnet(self) -> str:
        """Return a default subnet, for launches that name none."""
        with self.endpoint.lock:
            return next(str(subnet.id) for subnet in self.backend.get_default_subnets().values())

    def template_data(self, specification: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the data of a launch template's version; raise EC2's error where there is none."""
        return self.template_version(specification)[2] if specification else {}

    def template_version(self, specification: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """Return a template's id, the number of the version meant, and its data."""
        with self.endpoint.lock:
            if specification.get("LaunchTemplateId"):
                template = self.backend.launch_templates.get(specification["LaunchTemplateId"])
                code, name = "InvalidLaunchTemplateId.NotFound", specification["LaunchTemplateId"]
            else:
                name = specification.get("LaunchTemplateName", "")
                identity = self.backend.launch_template_name_to_ids.get(name)
                template = self.backend.launch_templates.get(identity)
                code = "InvalidLaunchTemplateName.NotFoundException"
            if template is None:
                raise Refused(code, f"The specified launch template, {name}, does not exist.")
            wanted = specification.get("Version") or "$Default"
            if not str(wanted).startswith("$") and not 1 <= int(wanted) <= len(template.versions):
                raise Refused(
                    "InvalidLaunchTemplateId.VersionNotFound",
                    f"Could not find launch template version {wanted} for {name}",
                )
            version = template.get_version(wanted)
            return template.id, str(version.number), dict(version.data)

    def _snapshot_made(self, _call: Call) -> None:
        """Let every new snapshot be pending until its blocks are copied."""
        with self.endpoint.lock:
            fresh = [
                snapshot
                for snapshot in self.backend.snapshots.values()
                if not hasattr(snapshot, "outrider_known")
            ]
            for snapshot in fresh:
                snapshot.outrider_known = True
                snapshot.status = "pending"
                images: frozenset[str] = getattr(snapshot.volume, "outrider_images", frozenset())
                snapshot.outrider_images = images
                snapshot.outrider_bytes = getattr(snapshot.volume, "outrider_bytes", 0)
        for snapshot in fresh:
            size = float(snapshot.volume.size or 1)
            self.timeline.record("snapshot", id=snapshot.id, state="pending", gib=size)
            self.clock.call_later(
                max(size * SNAPSHOT_SECONDS_PER_GIB, SNAPSHOT_LEAST_SECONDS),
                partial(self._snapshot_done, snapshot),
            )

    def _snapshot_done(self, snapshot: Any) -> None:
        with self.endpoint.lock:
            if snapshot.id not in self.backend.snapshots:
                return
            snapshot.status = "completed"
        self.timeline.record(
            "snapshot", id=snapshot.id, state="completed", gib=float(snapshot.volume.size or 1)
        )
        at = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        arn = f"arn:aws:ec2:{REGION}::snapshot/{snapshot.id}"
        self.publish(
            "aws.ec2",
            "EBS Snapshot Notification",
            {
                "event": "createSnapshot",
                "result": "succeeded",
                "cause": "",
                "request-id": "",
                "snapshot_id": arn,
                "source": f"arn:aws:ec2:{REGION}::volume/{snapshot.volume.id}",
                "startTime": at,
                "endTime": at,
            },
            [arn],
        )

    def settle_snapshots(self) -> None:
        """Take the snapshots that exist (images' own) as complete."""
        with self.endpoint.lock:
            for snapshot in self.backend.snapshots.values():
                snapshot.outrider_known = True


def merged_tags(*specifications: Sequence[Mapping[str, Any]] | None) -> dict[str, dict[str, str]]:
    """Return tags by resource type; later specifications win."""
    merged: dict[str, dict[str, str]] = {}
    for specification in specifications:
        for one in specification or ():
            tags = {tag["Key"]: tag.get("Value", "") for tag in one.get("Tags", [])}
            merged.setdefault(one["ResourceType"], {}).update(tags)
    return merged
