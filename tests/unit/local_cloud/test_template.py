"""The template's intrinsic functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outrider.errors import InvalidManifest
from outrider.local.template import Made, Resolver, Template, read, substitute


def resolver(**more: Any) -> Resolver:
    """Return a resolver over one resource and some parameters."""
    template = Template(
        Path("template.yaml"),
        {},
        {},
        {},
        conditions={"Yes": {"Fn::Equals": [{"Ref": "Mode"}, "full"]}},
        mappings={"Sizes": {"small": {"cpu": 1}}},
    )
    made = Made("queue-url", {"Arn": "queue-arn"})
    parameters = {"Mode": "full", "Roles": ["a", "b"], **more}
    return Resolver(template, parameters, {"Queue": made}.__getitem__, "stack")


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"Ref": "Queue"}, "queue-url"),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "queue-arn"),
        ({"Fn::GetAtt": "Queue.Arn"}, "queue-arn"),
        ({"Fn::Sub": "${AWS::Region}/${Queue.Arn}/${!Literal}"}, "us-east-1/queue-arn/${Literal}"),
        ({"Fn::Sub": ["${x}-${Mode}", {"x": {"Ref": "Queue"}}]}, "queue-url-full"),
        ({"Fn::Join": [",", {"Ref": "Roles"}]}, "a,b"),
        ({"Fn::Select": [1, {"Fn::Split": [",", "x,y"]}]}, "y"),
        ({"Fn::If": ["Yes", 1, {"Ref": "AWS::NoValue"}]}, 1),
        ({"Fn::FindInMap": ["Sizes", "small", "cpu"]}, 1),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [{"Ref": "AWS::NoValue"}, 2]}, {"b": [2]}),
        ({"Condition": {"StringEquals": {}}}, {"Condition": {"StringEquals": {}}}),
    ],
)
def test_intrinsic_functions(tree: Any, expected: Any) -> None:
    """Each gives what CloudFormation gives."""
    assert resolver().value(tree) == expected


def test_an_unknown_function_is_an_error() -> None:
    """What cannot be evaluated is named, not passed on."""
    with pytest.raises(InvalidManifest, match="Fn::Transform"):
        resolver().value({"Fn::Transform": {}})


def test_short_forms_are_read(tmp_path: Path) -> None:
    """YAML's tags become the long forms."""
    path = tmp_path / "t.yaml"
    path.write_text("Resources: {A: !GetAtt B.C.D, E: !Sub '${F}', G: !If [H, !Ref I, 1]}")
    assert read(path)["Resources"] == {
        "A": {"Fn::GetAtt": ["B", "C.D"]},
        "E": {"Fn::Sub": "${F}"},
        "G": {"Fn::If": ["H", {"Ref": "I"}, 1]},
    }


def test_substitutions_are_escaped_and_complete() -> None:
    """A definition's places are filled as JSON text, and none may be left."""
    assert substitute('{"a": "${X}"}', {"X": 'q"'}) == '{"a": "q\\""}'
    with pytest.raises(InvalidManifest, match="Y"):
        substitute("${Y}", {})
