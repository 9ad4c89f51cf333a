"""CreateFleet: send the request as core built it, read what came back.

No capacity is an answer with Errors and no instances, and EC2 also says it as an exception for the
whole call; both become a FleetResult. One entry of Instances may hold many ids. What an error's
override does not say (its zone, its type) is looked up in the request. A template that was deleted
behind our back is the caller's to make again (`NotFound`). Refuses to know what to do about an
error.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.apis import labels
from outrider.core.records import FleetError, FleetResult, Instance

Json = Mapping[str, Any]


def create(session: Session, call: Json, now: datetime) -> FleetResult:
    """Return what CreateFleet gives for *call*; *now* stands in for the launch time."""
    try:
        answer = session.client("ec2").create_fleet(**call)
    except ClientError as error:
        code = errors.code_of(error)
        message = str(error.response.get("Error", {}).get("Message", ""))
        if code in errors.CAPACITY or errors.scope(code, message) == "subnet":
            return FleetResult("", (), (_whole(call, code, message),))
        raise errors.translated(error, "CreateFleet") from error
    except BotoCoreError as error:
        raise errors.translated(error, "CreateFleet") from error
    instances = tuple(
        instance
        for entry in answer.get("Instances", ())
        for instance in _instances(entry, call, now)
    )
    failures = tuple(_error(entry, call) for entry in answer.get("Errors", ()))
    return FleetResult(str(answer.get("FleetId", "")), instances, failures)


def capacity_type(call: Json) -> str:
    """Return the capacity type that a *call* buys."""
    kind = call["TargetCapacitySpecification"].get("DefaultTargetCapacityType", "on-demand")
    return labels.SPOT if kind == "spot" else labels.ON_DEMAND


def _instances(entry: Json, call: Json, now: datetime) -> list[Instance]:
    override = entry.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    subnet = entry.get("SubnetId") or override.get("SubnetId", "")
    zone = (
        entry.get("AvailabilityZone")
        or override.get("AvailabilityZone")
        or _zones(call).get(subnet, "")
    )
    return [
        Instance(
            id=str(instance_id),
            instance_type=str(entry.get("InstanceType") or override.get("InstanceType", "")),
            zone=str(zone),
            capacity_type=capacity_type(call),
            state="pending",
            launched=now,
            image_id=str(override.get("ImageId", "")),
            subnet_id=str(subnet),
        )
        for instance_id in entry.get("InstanceIds", ())
    ]


def _error(entry: Json, call: Json) -> FleetError:
    override = entry.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    code, message = str(entry.get("ErrorCode", "")), str(entry.get("ErrorMessage", ""))
    subnet = str(override.get("SubnetId", ""))
    return FleetError(
        code=code,
        message=message,
        scope=errors.scope(code, message),
        instance_type=str(override.get("InstanceType", "")),
        zone=str(override.get("AvailabilityZone") or _zones(call).get(subnet, "")),
        capacity_type=capacity_type(call),
        subnet_id=subnet,
    )


def _whole(call: Json, code: str, message: str) -> FleetError:
    return FleetError(
        code=code,
        message=message,
        scope=errors.scope(code, message),
        capacity_type=capacity_type(call),
    )


def _zones(call: Json) -> dict[str, str]:
    return {
        override.get("SubnetId", ""): override.get("AvailabilityZone", "")
        for config in call["LaunchTemplateConfigs"]
        for override in config.get("Overrides", ())
    }
