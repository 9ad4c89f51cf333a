"""template.yaml as values: translated by SAM, intrinsic functions evaluated, nothing deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from outrider.local.template import Made, Resolver, Template, definition, read, translate

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
EVENTS = ROOT / "events"
STACK = "outrider-test"
CLUSTER = "test"
ACCOUNT = "123456789012"
REGION = "us-east-1"
NODE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/test-node"
PARAMETERS = {"ClusterName": CLUSTER, "NodeRoleArns": NODE_ROLE}

Json = dict[str, Any]

# What stands before a resource's name in its ARN: the service, the account's part, the kind.
ARNS = {
    "AWS::DynamoDB::Table": f"dynamodb:{REGION}:{ACCOUNT}:table/",
    "AWS::Events::EventBus": f"events:{REGION}:{ACCOUNT}:event-bus/",
    "AWS::Events::Rule": f"events:{REGION}:{ACCOUNT}:rule/",
    "AWS::IAM::ManagedPolicy": f"iam::{ACCOUNT}:policy/",
    "AWS::IAM::Role": f"iam::{ACCOUNT}:role/",
    "AWS::Lambda::Alias": f"lambda:{REGION}:{ACCOUNT}:function:",
    "AWS::Lambda::Function": f"lambda:{REGION}:{ACCOUNT}:function:",
    "AWS::Lambda::LayerVersion": f"lambda:{REGION}:{ACCOUNT}:layer:",
    "AWS::Logs::LogGroup": f"logs:{REGION}:{ACCOUNT}:log-group:",
    "AWS::SQS::Queue": f"sqs:{REGION}:{ACCOUNT}:",
    "AWS::SecretsManager::Secret": f"secretsmanager:{REGION}:{ACCOUNT}:secret:",
    "AWS::StepFunctions::StateMachine": f"states:{REGION}:{ACCOUNT}:stateMachine:",
}
# What CloudFormation adds to a name that the template leaves to it, where a policy counts on it.
ENDINGS = {
    "AWS::Events::Rule": "-0123456789AB",
    "AWS::Lambda::LayerVersion": ":1",
    "AWS::SecretsManager::Secret": "-AbCdEf",
}


class _Attributes(Mapping[str, Any]):
    """Whatever attribute is asked for: an ARN of the right service, or the logical id."""

    def __init__(self, kind: str, name: str) -> None:
        self._kind = kind
        self._name = name

    def __getitem__(self, key: str) -> str:
        if key == "Arn":
            return arn(self._kind, self._name)
        return self._name

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(("Arn",))

    def __len__(self) -> int:
        return 1


def arn(kind: str, name: str) -> str:
    """Return an ARN that tells what it is of."""
    if kind == "AWS::Lambda::Alias":
        name = f"{name.removesuffix('Aliaslive')}:live"
    return f"arn:aws:{ARNS[kind]}{name}{ENDINGS.get(kind, '')}"


REF_IS_ARN = frozenset(
    {
        "AWS::IAM::ManagedPolicy",
        "AWS::Lambda::Alias",
        "AWS::Lambda::LayerVersion",
        "AWS::SecretsManager::Secret",
        "AWS::StepFunctions::StateMachine",
    }
)


class Stack:
    """Every resource whose condition holds, its properties as CloudFormation would see them."""

    def __init__(self, template: Template, parameters: Mapping[str, str]) -> None:
        self._template = template
        values = {
            name: parameters.get(name, declared.get("Default", ""))
            for name, declared in template.parameters.items()
        }
        typed = {
            name: [part for part in str(value).split(",") if part]
            if template.parameters[name]["Type"] == "CommaDelimitedList"
            else str(value)
            for name, value in values.items()
        }
        self._resolver = Resolver(template, typed, self._made, STACK)
        self.resources: dict[str, Json] = {
            name: {
                "Type": resource["Type"],
                "Properties": self._resolver.value(resource.get("Properties", {})),
            }
            for name, resource in template.resources.items()
            if "Condition" not in resource or self._resolver.condition(resource["Condition"])
        }
        self.outputs: dict[str, str] = {
            name: str(self._resolver.value(output["Value"]))
            for name, output in template.outputs.items()
        }

    def _made(self, logical_id: str) -> Made:
        resource = self._template.resources[logical_id]
        kind, properties = resource["Type"], resource.get("Properties", {})
        named = next(
            (
                properties[key]
                for key in ("QueueName", "TableName", "StateMachineName", "Name", "LogGroupName")
                if key in properties and kind != "AWS::Lambda::Alias"
            ),
            None,
        )
        name = str(self._resolver.value(named)) if named else f"{STACK}-{logical_id}"
        attributes = _Attributes(kind, name)
        by_arn = kind in REF_IS_ARN
        return Made(attributes["Arn"] if by_arn else name, attributes)

    def of(self, kind: str) -> dict[str, Json]:
        """Return the properties of every resource of *kind*, by logical id."""
        return {
            name: resource["Properties"]
            for name, resource in self.resources.items()
            if resource["Type"] == kind
        }


@cache
def template() -> Json:
    """Return template.yaml as it is written, short forms made long."""
    return read(TEMPLATE)


def stack(**parameters: str) -> Stack:
    """Return the stack with *parameters* over the usual ones."""
    return _stack(tuple(sorted({**PARAMETERS, **parameters}.items())))


@cache
def _stack(parameters: tuple[tuple[str, str], ...]) -> Stack:
    given = dict(parameters)
    return Stack(translate(TEMPLATE, given), given)


def machine(name: str) -> Json:
    """Return the definition of the state machine *name* (`drain`, `seed`), substitutions made."""
    path = ROOT / "statemachines" / f"{name}.asl.yaml"
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{name}:live"
    values = {"Partition": "aws", f"{name.capitalize()}FunctionArn": function}
    document: Json = yaml.safe_load(definition(path, values))
    return document
