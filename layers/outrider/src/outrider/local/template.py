"""The template: read, translated by SAM's own translator, and resolved value by value.

`translate` gives the CloudFormation document that `sam deploy` would send, with each function's
folder and each state machine's definition remembered beside it (they go to S3 on AWS). `Resolver`
evaluates intrinsic functions and asks its `lookup` for a resource the moment somebody refers to it,
which is CloudFormation's order of creation. An intrinsic that it does not know is an error. Refuses
to know what any resource does.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from outrider.errors import InvalidManifest
from outrider.local.region import ACCOUNT, REGION

Json = dict[str, Any]
NO_VALUE = object()


@dataclass(frozen=True, slots=True)
class Template:
    """A translated template with what lies beside it on disk."""

    path: Path
    parameters: Json
    resources: Json
    outputs: Json
    conditions: Json = field(default_factory=dict)
    mappings: Json = field(default_factory=dict)
    code: Mapping[str, Path] = field(default_factory=dict)
    definitions: Mapping[str, Path] = field(default_factory=dict)


# libyaml's loader where the wheel has it: ten times as fast, and the same tree.
_FASTEST: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_FASTEST):  # type: ignore[misc, valid-type]
    """YAML with CloudFormation's short forms."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Json:
    key = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if key == "Fn::GetAtt":
            value = str(value).split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    return {key: value}


_Loader.add_multi_constructor("!", _short_form)


def read(path: Path) -> Json:
    """Return a template file as a plain tree, short forms made long."""
    try:
        document = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (OSError, yaml.YAMLError) as error:
        raise InvalidManifest(str(error).splitlines()[0], where=str(path)) from error
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise InvalidManifest("is no template: it has no Resources", where=str(path))
    return document


def translate(path: Path, values: Mapping[str, str]) -> Template:
    """Return *path* as CloudFormation; *values* are the parameters that are not to be the
    default.
    """
    source = read(path)
    globals_ = source.get("Globals", {}).get("Function", {})
    code: dict[str, Path] = {}
    definitions: dict[str, Path] = {}
    for logical_id, resource in source["Resources"].items():
        properties = resource.setdefault("Properties", {})
        match resource.get("Type"):
            case "AWS::Serverless::Function":
                folder = properties.get("CodeUri", globals_.get("CodeUri", "."))
                code[logical_id] = (path.parent / folder).resolve()
                properties["CodeUri"] = f"s3://local/{logical_id}"
            case "AWS::Serverless::LayerVersion":
                properties["ContentUri"] = f"s3://local/{logical_id}"
            case "AWS::Serverless::StateMachine" if isinstance(
                properties.get("DefinitionUri"), str
            ):
                definitions[logical_id] = (path.parent / properties["DefinitionUri"]).resolve()
                properties["DefinitionUri"] = f"s3://local/{logical_id}"
    given = {
        name: values.get(name, parameter.get("Default", ""))
        for name, parameter in source.get("Parameters", {}).items()
    }
    translated = _sam(source, given, path)
    return Template(
        path=path,
        parameters=source.get("Parameters", {}),
        resources=translated["Resources"],
        outputs=translated.get("Outputs", {}),
        conditions=translated.get("Conditions", {}),
        mappings=translated.get("Mappings", {}),
        code=code,
        definitions=definitions,
    )


def _sam(source: Json, values: Mapping[str, Any], path: Path) -> Json:
    """Return what SAM makes of *source*, as its own `transform` does it, with our region in
    hand.
    """
    import boto3
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator
    from samtranslator.utils.py27hash_fix import (
        to_py27_compatible_template,
        undo_mark_unicode_str_in_template,
    )

    # It counts how it is used, publishes to nobody, and complains of that at its end.
    logging.getLogger("samtranslator.metrics.metrics").setLevel(logging.ERROR)
    parameters = dict(values)
    to_py27_compatible_template(source, parameters)
    translator = Translator(None, Parser(), boto_session=boto3.Session(region_name=REGION))
    try:
        translated = translator.translate(
            source, parameter_values=parameters, get_managed_policy_map=dict
        )
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes) or str(error)
        raise InvalidManifest(causes, where=str(path)) from error
    plain: Json = undo_mark_unicode_str_in_template(translated)
    return plain


@dataclass(frozen=True, slots=True)
class Made:
    """A resource that exists: what Ref gives, and what GetAtt gives."""

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Resolver:
    """Evaluates the intrinsic functions of one stack."""

    def __init__(
        self,
        template: Template,
        parameters: Mapping[str, Any],
        lookup: Callable[[str], Made],
        stack_name: str,
    ) -> None:
        self._template = template
        self._lookup = lookup
        self._parameters = dict(parameters)
        self._pseudo: dict[str, Any] = {
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": stack_name,
            "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{stack_name}/local",
            "AWS::NotificationARNs": [],
            "AWS::NoValue": NO_VALUE,
        }
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Condition": self.condition,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::Select": self._select,
            "Fn::Split": self._split,
            "Fn::If": self._if,
            "Fn::Equals": lambda two: _text(self.value(two[0])) == _text(self.value(two[1])),
            "Fn::And": lambda some: all(self.value(one) for one in some),
            "Fn::Or": lambda some: any(self.value(one) for one in some),
            "Fn::Not": lambda one: not self.value(one[0]),
            "Fn::FindInMap": self._find_in_map,
            "Fn::Base64": lambda text: base64.b64encode(self.value(text).encode()).decode(),
            "Fn::GetAZs": lambda _region: [f"{REGION}{letter}" for letter in "abc"],
            "Fn::ToJsonString": lambda value: json.dumps(self.value(value)),
            "Fn::Length": lambda value: len(self.value(value)),
            "Fn::Cidr": self._cidr,
        }

    def value(self, tree: Any) -> Any:
        """Return *tree* with every intrinsic function evaluated."""
        if isinstance(tree, dict):
            if len(tree) == 1:
                key, argument = next(iter(tree.items()))
                if key in self._functions and (key != "Condition" or isinstance(argument, str)):
                    return self._functions[key](argument)
                if key.startswith("Fn::"):
                    raise InvalidManifest(
                        f"the intrinsic function {key} is not known",
                        where=str(self._template.path),
                    )
            pairs = ((key, self.value(child)) for key, child in tree.items())
            return {key: child for key, child in pairs if child is not NO_VALUE}
        if isinstance(tree, list):
            children = (self.value(child) for child in tree)
            return [child for child in children if child is not NO_VALUE]
        return tree

    def condition(self, name: str) -> bool:
        """Return whether a condition of the template holds."""
        if name not in self._template.conditions:
            raise InvalidManifest(f"no condition {name}", where=str(self._template.path))
        return bool(self.value(self._template.conditions[name]))

    def _ref(self, name: str) -> Any:
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._parameters:
            return self._parameters[name]
        return self._lookup(name).physical_id

    def _get_att(self, path: Any) -> Any:
        parts = path.split(".", 1) if isinstance(path, str) else path
        name, attribute = str(parts[0]), str(self.value(parts[1]))
        made = self._lookup(name)
        if attribute not in made.attributes:
            raise InvalidManifest(
                f"{name} has no attribute {attribute}", where=str(self._template.path)
            )
        return made.attributes[attribute]

    def _sub(self, argument: Any) -> str:
        text, extra = (argument, {}) if isinstance(argument, str) else argument
        values = {key: self.value(child) for key, child in extra.items()}

        def replace(found: re.Match[str]) -> str:
            name = found[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in values:
                return _text(values[name])
            is_attribute = "." in name and not name.startswith("AWS::")
            return _text(self._get_att(name) if is_attribute else self._ref(name))

        return re.sub(r"\$\{(!?[\w:.]+)\}", replace, text)

    def _join(self, argument: Any) -> str:
        separator, parts = argument
        return str(separator).join(_text(part) for part in self.value(parts))

    def _select(self, argument: Any) -> Any:
        return self.value(argument[1])[int(self.value(argument[0]))]

    def _split(self, argument: Any) -> list[str]:
        return str(self.value(argument[1])).split(argument[0])

    def _if(self, argument: Any) -> Any:
        return self.value(argument[1] if self.condition(argument[0]) else argument[2])

    def _find_in_map(self, argument: Any) -> Any:
        name, first, second = (self.value(part) for part in argument[:3])
        return self.value(self._template.mappings[name][first][second])

    def _cidr(self, argument: Any) -> list[str]:
        block, count, bits = (self.value(part) for part in argument)
        subnets = ipaddress.ip_network(block).subnets(new_prefix=32 - int(bits))
        return [str(subnet) for subnet, _ in zip(subnets, range(int(count)), strict=False)]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def definition(path: Path, substitutions: Mapping[str, Any]) -> str:
    """Return a state machine's definition as JSON, its substitutions made."""
    text = path.read_text()
    is_yaml = path.suffix in (".yaml", ".yml")
    document = yaml.safe_load(text) if is_yaml else json.loads(text)
    return substitute(json.dumps(document), substitutions)


def substitute(text: str, substitutions: Mapping[str, Any]) -> str:
    """Return *text* with every `${Name}` of *substitutions* replaced; strings are JSON-escaped."""

    def replace(found: re.Match[str]) -> str:
        if found[1] not in substitutions:
            raise InvalidManifest(f"no substitution for ${{{found[1]}}} in a state machine")
        value = substitutions[found[1]]
        return json.dumps(value)[1:-1] if isinstance(value, str) else json.dumps(value)

    return re.sub(r"\$\{(\w+)\}", replace, text)
