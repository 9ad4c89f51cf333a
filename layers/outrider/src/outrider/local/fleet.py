"""CreateFleet `instant`, as EC2 does it and moto does not.

Every override is a pool with a price and a capacity; the allocation strategy picks, insufficient
capacity comes back in Errors beside what was launched, a client token replays its first answer, a
fleet with MinTargetCapacity launches that many or none. Instances come from `Instances.launch`, so
launch template and override apply as they would on AWS. Matches events-and-fleet facts 2.2 to 2.4
of the specification; refuses any other type of fleet, which outrider never asks for.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moto.core.exceptions import ServiceException

from outrider.local.allocation import Pool, allotted, ranked, single
from outrider.local.instances import Instances, Launch, merged_tags
from outrider.local.market import ZONES, Market, facts, offered, price, spot_price
from outrider.local.reservations import Reservations
from outrider.local.timeline import Timeline
from outrider.local.wire import Call, Refused

LONGEST_TOKEN = 64
_MIN_PRICE = 0.001
_NO_SPOT = "There is no Spot capacity available that matches your request."
_NO_CAPACITY = (
    "We currently do not have sufficient {0} capacity in the Availability Zone you requested "
    "({1}). Our system will be working on provisioning additional capacity."
)


_NOT_OFFERED = (
    "Your requested instance type ({0}) is not supported in your requested Availability Zone ({1})."
)


@dataclass(slots=True)
class _Fleet:
    """What one call has launched and met so far."""

    tags: Mapping[str, Mapping[str, str]]
    launched: dict[tuple[str, int], list[Any]] = field(default_factory=dict)
    pools: dict[tuple[str, int], Pool] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Fleets:
    """CreateFleet and what it remembers."""

    instances: Instances
    market: Market
    reservations: Reservations
    timeline: Timeline
    now: Callable[[], Any]
    _answers: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    _free: dict[str, int] = field(default_factory=dict)

    def install(self) -> None:
        """Answer CreateFleet."""
        self.instances.endpoint.serve("ec2:CreateFleet", self._create)

    def _create(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        with self.instances.endpoint.lock:
            token = wanted.get("ClientToken") or ""
            content = hashlib.sha256(
                json.dumps(wanted, sort_keys=True, default=str).encode()
            ).hexdigest()
            _check(wanted, token)
            if token and token in self._answers:
                known, answer = self._answers[token]
                if known != content:
                    raise Refused(
                        "IdempotentParameterMismatch",
                        "The client token was used with other parameters.",
                    )
                return answer
            if wanted.get("DryRun"):
                raise Refused(
                    "DryRunOperation", "Request would have succeeded, but DryRun flag is set."
                )
            answer = self._launch(wanted)
            if token:
                self._answers[token] = (content, answer)
        return answer

    def _launch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        fleet = _Fleet(merged_tags(wanted.get("TagSpecifications")))
        self._free.clear()
        for capacity_type, target, options in _parts(wanted):
            self._fill(fleet, wanted, capacity_type, target, options)
        answer: dict[str, Any] = {
            "FleetId": f"fleet-{uuid.uuid4()}",
            "Instances": [
                _shown(fleet.pools[key], key[0], launched)
                for key, launched in fleet.launched.items()
            ],
            "Errors": fleet.errors,
        }
        made = [instance for launched in fleet.launched.values() for instance in launched]
        self.timeline.record(
            "createFleet",
            types=sorted({pool.instance_type for pool in self._pools(wanted, "spot")}),
            launched=[
                {"id": one.id, "type": one.instance_type, "zone": one.availability_zone}
                for one in made
            ],
            errors=[{"code": error["ErrorCode"], **_where(error)} for error in fleet.errors],
        )
        for instance in made:
            self.instances.begin(instance)
        return answer

    def _fill(
        self,
        fleet: _Fleet,
        wanted: dict[str, Any],
        capacity_type: str,
        target: float,
        options: Mapping[str, Any],
    ) -> None:
        """Launch one capacity type's part of the fleet."""
        pools = list(self._pools(wanted, capacity_type))
        strategy = options.get("AllocationStrategy") or "lowest-price"
        by_zone = bool(options.get("SingleAvailabilityZone"))
        by_type = bool(options.get("SingleInstanceType"))
        chosen = pools
        if by_zone or by_type:
            chosen = single(pools, zone=by_zone, kind=by_type, target=target, strategy=strategy)
        rounds = ranked(chosen, strategy, int(options.get("InstancePoolsToUseCount") or 1))
        counts, short = allotted(rounds, target)
        by_index = {pool.index: pool for pool in pools}
        filled = sum(by_index[index].weight * count for index, count in counts.items())
        if filled < float(options.get("MinTargetCapacity") or 0):
            seen = {pool.index for pool in short}
            short += [pool for pool in pools if pool.index not in seen and pool.left < target]
            counts = {}
        for pool in short:
            fleet.errors.append(_error(pool, capacity_type))
        for index, count in counts.items():
            self._launch_pool(fleet, by_index[index], capacity_type, count)

    def _launch_pool(self, fleet: _Fleet, pool: Pool, capacity_type: str, count: int) -> None:
        reservation = _reservation_of(pool.data)
        launch = Launch(
            data=pool.data,
            instance_type=pool.instance_type,
            subnet_id=pool.subnet_id,
            capacity_type=capacity_type,
            tags=_all_tags(pool.data, fleet.tags),
            reservation_id=reservation,
        )
        for _ in range(count):
            try:
                instance = self.instances.launch(launch)
            except ServiceException as refusal:
                problem = (str(refusal.code), str(refusal.message))
                fleet.errors.append(_error(replace(pool, problem=problem), capacity_type))
                return
            self.market.take(pool.instance_type, pool.zone, capacity_type, 1)
            if reservation:
                self.reservations.use(reservation, instance.id)
            key = (capacity_type, pool.index)
            fleet.pools[key] = pool
            fleet.launched.setdefault(key, []).append(instance)

    def _pools(self, wanted: dict[str, Any], capacity_type: str) -> Iterator[Pool]:
        """Yield every override of every config as a pool with its price and what is left."""
        index = 0
        for config in wanted["LaunchTemplateConfigs"]:
            specification = config["LaunchTemplateSpecification"]
            template_id, version, data = self.instances.template_version(specification)
            beside = specification.get("LaunchTemplateSpecificationUserData")
            if beside:
                data["UserData"] = beside
            shown = {"LaunchTemplateId": template_id, "Version": version}
            if specification.get("LaunchTemplateName"):
                shown["LaunchTemplateName"] = specification["LaunchTemplateName"]
            for override in config.get("Overrides") or [{}]:
                yield self._pool(index, shown, data, override, capacity_type)
                index += 1

    def _pool(
        self,
        index: int,
        specification: Mapping[str, Any],
        template: Mapping[str, Any],
        override: Mapping[str, Any],
        capacity_type: str,
    ) -> Pool:
        data = _overridden(template, override)
        name = str(override.get("InstanceType") or data.get("InstanceType") or "")
        if not name:
            raise Refused(
                "UnsupportedOperation", "InstanceRequirements are not sold here: name InstanceType."
            )
        subnet_id, zone = self._place(override, data)
        problem: tuple[str, str] | None = None
        hourly = price(name) or 0.0
        if capacity_type == "spot":
            hourly = spot_price(name, zone, self.now()) or 0.0
        left = self.market.left(name, zone, capacity_type)
        if facts(name) is None:
            problem = ("InvalidInstanceType", f"The instance type '{name}' does not exist")
        elif not offered(name, zone):
            problem = ("Unsupported", _NOT_OFFERED.format(name, zone))
        elif "MaxPrice" in override and float(override["MaxPrice"]) < hourly:
            problem = ("SpotMaxPriceTooLow", f"Your Spot request price is lower than {hourly}.")
        elif reservation := _reservation_of(data):
            left, problem = self.reservations.room(reservation, name, zone)
        elif self._free_addresses(subnet_id) <= 0:
            problem = (
                "InsufficientFreeAddressesInSubnet",
                f"There are not enough free addresses in subnet '{subnet_id}'.",
            )
        return Pool(
            index, specification, override, data, name, subnet_id, zone, hourly, left, problem
        )

    def _free_addresses(self, subnet_id: str) -> int:
        """Return a subnet's free addresses, counted once a call: moto walks every interface."""
        if subnet_id not in self._free:
            subnet = self.instances.backend.get_subnet(subnet_id)
            self._free[subnet_id] = int(subnet.available_ip_address_count)
        return self._free[subnet_id]

    def _place(self, override: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[str, str]:
        """Return the subnet and the zone that an override means."""
        backend = self.instances.backend
        subnet_id = override.get("SubnetId") or self.instances._interface_subnet(data)
        zone = override.get("AvailabilityZone") or (override.get("Placement") or {}).get(
            "AvailabilityZone"
        )
        if not subnet_id:
            defaults = backend.get_default_subnets()
            subnet = defaults.get(zone) if zone else next(iter(defaults.values()))
            if subnet is None:
                raise Refused("InvalidParameterValue", f"No default subnet in {zone}")
            return str(subnet.id), str(subnet.availability_zone)
        found = {
            subnet.id: subnet for zones in backend.subnets.values() for subnet in zones.values()
        }
        if subnet_id not in found:
            raise Refused("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")
        actual = str(found[subnet_id].availability_zone)
        if zone and zone != actual:
            raise Refused(
                "InvalidParameterValue", f"Subnet {subnet_id} is in {actual}, not in {zone}"
            )
        return str(subnet_id), actual


def _check(wanted: Mapping[str, Any], token: str) -> None:
    """Refuse what EC2 refuses before it looks for capacity."""
    if wanted.get("Type", "maintain") != "instant":
        raise Refused("UnsupportedOperation", "Only fleets of type instant are sold here.")
    if len(token) > LONGEST_TOKEN or not token.isascii():
        raise Refused("InvalidParameterValue", "ClientToken has at most 64 ASCII characters.")
    if not wanted.get("LaunchTemplateConfigs"):
        raise Refused("MissingParameter", "The request must contain LaunchTemplateConfigs")
    target = int(wanted.get("TargetCapacitySpecification", {}).get("TotalTargetCapacity", 0))
    if not 1 <= target <= 10_000:
        raise Refused("InvalidTargetCapacitySpecification", "TotalTargetCapacity: from 1 to 10000.")
    for block in ("SpotOptions", "OnDemandOptions"):
        options = wanted.get(block) or {}
        is_single = options.get("SingleInstanceType") or options.get("SingleAvailabilityZone")
        if options.get("MinTargetCapacity") and not is_single:
            raise Refused(
                "InvalidParameterCombination",
                "MinTargetCapacity needs SingleAvailabilityZone or SingleInstanceType.",
            )
    for config in wanted["LaunchTemplateConfigs"]:
        for override in config.get("Overrides") or []:
            if "MaxPrice" in override and float(override["MaxPrice"]) <= _MIN_PRICE:
                raise Refused("InvalidParameterValue", "MaxPrice must exceed 0.001.")


def _parts(wanted: Mapping[str, Any]) -> Iterator[tuple[str, float, Mapping[str, Any]]]:
    """Yield the capacity types that a fleet wants: how much of each, and under which options."""
    capacity = wanted["TargetCapacitySpecification"]
    spot = float(capacity.get("SpotTargetCapacity") or 0)
    on_demand = float(capacity.get("OnDemandTargetCapacity") or 0)
    rest = max(float(capacity["TotalTargetCapacity"]) - spot - on_demand, 0.0)
    default = capacity.get("DefaultTargetCapacityType") or "on-demand"
    if default == "spot":
        spot += rest
    elif default == "on-demand":
        on_demand += rest
    elif rest:
        yield default, rest, {"AllocationStrategy": "prioritized"}
    if on_demand:
        yield "on-demand", on_demand, wanted.get("OnDemandOptions") or {}
    if spot:
        yield "spot", spot, wanted.get("SpotOptions") or {}


def _overridden(template: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return launch template data with what an instant fleet's override may say over it."""
    data = dict(template)
    for key in ("ImageId", "KeyName", "IamInstanceProfile", "MetadataOptions", "Placement"):
        if override.get(key):
            data[key] = override[key]
    if override.get("BlockDeviceMappings"):
        devices = {one["DeviceName"]: one for one in data.get("BlockDeviceMappings") or []}
        for one in override["BlockDeviceMappings"]:
            devices[one["DeviceName"]] = one
        data["BlockDeviceMappings"] = list(devices.values())
    return data


def _reservation_of(data: Mapping[str, Any]) -> str | None:
    target = (data.get("CapacityReservationSpecification") or {}).get("CapacityReservationTarget")
    return (target or {}).get("CapacityReservationId")


def _all_tags(
    data: Mapping[str, Any], fleet: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    tags = merged_tags(data.get("TagSpecifications"))
    for kind, own in fleet.items():
        tags.setdefault(kind, {}).update(own)
    return tags


def _echo(pool: Pool) -> dict[str, Any]:
    overrides = {
        key: value
        for key, value in pool.override.items()
        if key not in ("KeyName", "MetadataOptions")
    }
    overrides.setdefault("InstanceType", pool.instance_type)
    return {"LaunchTemplateSpecification": pool.specification, "Overrides": overrides}


def _shown(pool: Pool, capacity_type: str, launched: Sequence[Any]) -> dict[str, Any]:
    return {
        "LaunchTemplateAndOverrides": _echo(pool),
        "Lifecycle": "spot" if capacity_type == "spot" else "on-demand",
        "InstanceIds": [instance.id for instance in launched],
        "InstanceType": pool.instance_type,
        "AvailabilityZone": pool.zone,
        "AvailabilityZoneId": ZONES.get(pool.zone, ""),
        "SubnetId": pool.subnet_id,
    }


def _error(pool: Pool, capacity_type: str) -> dict[str, Any]:
    code, message = pool.problem or (
        "InsufficientInstanceCapacity",
        _NO_SPOT if capacity_type == "spot" else _NO_CAPACITY.format(pool.instance_type, pool.zone),
    )
    echo = _echo(pool)
    echo["Overrides"] = {**echo["Overrides"], "AvailabilityZone": pool.zone}
    return {
        "LaunchTemplateAndOverrides": echo,
        "Lifecycle": capacity_type if capacity_type != "reserved-capacity" else "on-demand",
        "ErrorCode": code,
        "ErrorMessage": message,
    }


def _where(error: Mapping[str, Any]) -> dict[str, Any]:
    overrides = error["LaunchTemplateAndOverrides"]["Overrides"]
    return {
        "type": overrides.get("InstanceType"),
        "zone": overrides.get("AvailabilityZone"),
        "capacityType": error["Lifecycle"],
    }
