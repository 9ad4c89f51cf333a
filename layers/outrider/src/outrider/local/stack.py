"""The stack: every resource of the translated template, made by the API call that CloudFormation
makes.

What moto has becomes a resource of moto's; what it only records (schedules, event source mappings,
alarms) or lacks (HttpApi, access entries) goes to the room of the embedded cloud that does it. What
IAM would evaluate (permissions, policies) is stored and not enforced. A resource type without a
maker is an error: nothing of the template is skipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from outrider.errors import InvalidManifest
from outrider.local.functions import Function
from outrider.local.makers.compute import Compute
from outrider.local.makers.keeping import Keeping
from outrider.local.makers.maker import Json, Rooms
from outrider.local.makers.messaging import Messaging
from outrider.local.template import Made, Resolver, Template

__all__ = ["Rooms", "Stack"]


class Stack:
    """One deployed template."""

    def __init__(
        self, template: Template, parameters: Mapping[str, Any], rooms: Rooms, name: str
    ) -> None:
        self.name = name
        self.template = template
        self.parameters = dict(parameters)
        self.made: dict[str, Made] = {}
        self.outputs: dict[str, str] = {}
        self.rooms = rooms
        self._making: list[str] = []
        self._resolver = Resolver(template, _typed(template, parameters), self.make, name)
        self._makers = _makers(self)

    def deploy(self) -> None:
        """Make every resource whose condition holds, then evaluate the Outputs."""
        for logical_id, resource in self.template.resources.items():
            if self._wanted(resource):
                self.make(logical_id)
        for key, output in self.template.outputs.items():
            if self._wanted(output):
                self.outputs[key] = self.rooms.gateway.local(
                    str(self._resolver.value(output["Value"]))
                )

    def _wanted(self, declared: Json) -> bool:
        condition = declared.get("Condition")
        return condition is None or self._resolver.condition(condition)

    def make(self, logical_id: str) -> Made:
        """Return the resource, made now if it is not there yet."""
        if logical_id in self.made:
            return self.made[logical_id]
        resource = self.template.resources.get(logical_id)
        if resource is None:
            raise self.invalid(f"no resource or parameter {logical_id}")
        if logical_id in self._making:
            raise self.invalid(f"circular: {' > '.join([*self._making, logical_id])}")
        kind = resource["Type"]
        if kind not in self._makers:
            raise self.invalid(f"{logical_id}: the embedded cloud cannot make {kind}")
        self._making.append(logical_id)
        try:
            after = resource.get("DependsOn", [])
            for other in [after] if isinstance(after, str) else after:
                if self._wanted(self.template.resources[other]):
                    self.make(other)
            properties = self._resolver.value(resource.get("Properties", {}))
            made = self._makers[kind](logical_id, properties)
        finally:
            self._making.pop()
        self.made[logical_id] = made
        return made

    def invalid(self, problem: str) -> InvalidManifest:
        """Return the error that *problem* is, with the template's name."""
        return InvalidManifest(problem, where=str(self.template.path))

    def physical(self, logical_id: str, suffix: str = "", limit: int = 64) -> str:
        """Return a name as CloudFormation makes one: stack, logical id, a fixed hash."""
        digest = hashlib.sha256(f"{self.name}/{logical_id}".encode()).hexdigest()[:12].upper()
        room = limit - len(digest) - len(suffix) - 1
        return f"{f'{self.name}-{logical_id}'[:room]}-{digest}{suffix}"

    def function(self, reference: str) -> Function:
        """Return the function that a property names."""
        function = self.rooms.functions.find(reference)
        if function is None:
            raise self.invalid(f"no function {reference}")
        return function


def _typed(template: Template, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by their declared types: lists are split."""
    typed: dict[str, Any] = {}
    for name, value in parameters.items():
        kind = template.parameters.get(name, {}).get("Type", "String")
        is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
        typed[name] = [part for part in str(value).split(",") if part] if is_list else value
    return typed


Maker = Callable[[str, Json], Made]


def _makers(stack: Stack) -> dict[str, Maker]:
    """Return the maker of each resource type."""
    messaging, compute, rest = Messaging(stack), Compute(stack), Keeping(stack)
    return {
        "AWS::SQS::Queue": messaging.queue,
        "AWS::SQS::QueuePolicy": messaging.queue_policy,
        "AWS::SNS::Topic": messaging.topic,
        "AWS::SNS::TopicPolicy": messaging.recorded,
        "AWS::SNS::Subscription": messaging.subscription,
        "AWS::Events::EventBus": messaging.bus,
        "AWS::Events::EventBusPolicy": messaging.recorded,
        "AWS::Events::Rule": messaging.rule,
        "AWS::Events::Archive": messaging.archive,
        "AWS::Scheduler::Schedule": messaging.schedule,
        "AWS::Scheduler::ScheduleGroup": messaging.schedule_group,
        "AWS::Lambda::Function": compute.function,
        "AWS::Lambda::LayerVersion": compute.layer,
        "AWS::Lambda::Version": compute.version,
        "AWS::Lambda::Alias": compute.alias,
        "AWS::Lambda::Permission": compute.permission,
        "AWS::Lambda::EventSourceMapping": compute.source_mapping,
        "AWS::Lambda::EventInvokeConfig": compute.invoke_config,
        "AWS::StepFunctions::StateMachine": compute.state_machine,
        "AWS::ApiGatewayV2::Api": compute.http_api,
        "AWS::ApiGatewayV2::Stage": compute.http_stage,
        "AWS::IAM::Role": rest.role,
        "AWS::IAM::Policy": rest.policy,
        "AWS::IAM::ManagedPolicy": rest.managed_policy,
        "AWS::IAM::InstanceProfile": rest.instance_profile,
        "AWS::DynamoDB::Table": rest.table,
        "AWS::CloudWatch::Alarm": rest.alarm,
        "AWS::CloudWatch::Dashboard": rest.dashboard,
        "AWS::Logs::LogGroup": rest.log_group,
        "AWS::EKS::AccessEntry": rest.access_entry,
        "AWS::SSM::Parameter": rest.parameter,
        "AWS::SecretsManager::Secret": rest.secret,
        "AWS::KMS::Key": rest.key,
        "AWS::KMS::Alias": rest.key_alias,
        "AWS::EC2::SecurityGroup": rest.security_group,
        "AWS::EC2::SecurityGroupIngress": rest.ingress,
    }
