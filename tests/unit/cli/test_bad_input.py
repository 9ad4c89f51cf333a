"""Bad input ends with status 2, within seconds, in one line that names file, object and field.

Everything runs in this process, through `main`, as a shell would start it; the time that counts is
the processor's. Nothing is ever printed on standard output.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from outrider.cli.main import main
from tests.support import builders

Json = dict[str, Any]
SECONDS = 5.0
POOL = """
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: gpu}
spec:
  FIELD
  template:
    spec:
      nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
      requirements: [REQUIREMENT]
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: team}
spec: {FIELD containers: [{name: c, resources: {requests: {cpu: CPU}}}]}
"""
CLASS = """
apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata: {name: gpu, annotations: {outrider.dev/gpu-sharing: "SHARING"}}
spec:
  role: node
  amiSelectorTerms: [{alias: al2023@latest}]
  subnetSelectorTerms: [{id: subnet-1}]
  securityGroupSelectorTerms: [{id: sg-1}]
  kubelet: {maxPods: PODS}
"""


def pool(field: str = "", requirement: str = "") -> str:
    """Return a NodePool with one more *field* and one *requirement*."""
    return POOL.replace("FIELD", field).replace("REQUIREMENT", requirement)


def waiting(cpu: str = "1", field: str = "") -> str:
    """Return a pending pod."""
    return POD.replace("CPU", cpu).replace("FIELD", field)


def node_class(pods: str = "110", sharing: str = "mps=2") -> str:
    """Return an EC2NodeClass."""
    return CLASS.replace("PODS", pods).replace("SHARING", sharing)


def nested(depth: int) -> str:
    """Return YAML of *depth* lists in one another."""
    return "a: " + "[" * depth + "]" * depth


def bomb(levels: int) -> str:
    """Return YAML whose aliases stand for nine to the power of *levels* values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\nkind: Pod\napiVersion: v1\n"


# What is in the file, and what the line must say after the file's name.
BAD: dict[str, tuple[str | bytes, str]] = {
    "YAML that does not parse": ("kind: Pod\nspec: [1\nb: }", "is not YAML"),
    "a tab where YAML wants spaces": ("kind: Pod\nspec:\n\tcontainers: []", "(line 3, column 1)"),
    "JSON that is cut off": ('{"kind": "Pod", "apiVersion": "v1", "spec": {', "is not YAML"),
    "a binary file": (bytes(range(256)) * 4000, "is not UTF-8 text"),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not UTF-8 text"),
    "text with zero bytes": (b"kind: Pod\0", "is not text"),
    "nothing": ("", "there is no document"),
    "only a comment": ("# nothing\n---\n", "there is no document"),
    "a list": ("[1, 2]", "must be an object, not a list"),
    "a word": ("hello", "must be an object, not text"),
    "a List of words": ("kind: List\napiVersion: v1\nitems: [a]", "items[0]: must be an object"),
    "an object without a kind": ("metadata: {name: a}", "kind: is required"),
    "an object without a version": ("kind: Pod", "apiVersion: is required"),
    "an alias in itself": ("kind: Pod\napiVersion: v1\nspec: &s {a: *s}", "contains itself"),
    "aliases that explode": (bomb(9), "expand beyond all measure"),
    "aliases that explode for good": (bomb(60), "expand beyond all measure"),
    "lists in lists in lists": (nested(100_000), "is nested too deeply"),
    "lists in lists, dash by dash": ("- " * 100_000 + "a", "is nested too deeply"),
    "JSON within JSON": ('{"a":' * 5000 + "1" + "}" * 5000, "is nested too deeply"),
    "a tag that would build an object": ("kind: !!python/object:os.system x", "is not YAML"),
    "keys that are no text": ("kind: Pod\napiVersion: v1\n? [a]\n: b", "is not YAML"),
    "ten megabytes of junk": ("x: y\n" * 2_100_000, "no document in it has a kind"),
    "ten megabytes in one line": (b"\xfe" * 10**7, "is not UTF-8 text"),
    "ten megabytes of braces": ("{" * 10**7, "no document in it has a kind"),
    "the same object twice, differing": (
        waiting("1") + "---" + waiting("2"),
        "Pod team/a: is there twice, and differs",
    ),
    "a pod without a name": (waiting().replace("name: a,", ""), "Pod team: metadata.name"),
    "a pod without containers": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}",
        "Pod a: spec.containers",
    ),
    "a quantity of no unit": (waiting("1Qi"), "requests.cpu: '1Qi' is not a quantity"),
    "a negative quantity": (waiting("'-1'"), "requests.cpu: '-1' is negative"),
    "a quantity that is a list": (waiting("[]"), "requests.cpu: [] is not a quantity"),
    "a pod's unknown operator": (
        waiting(field="tolerations: [{key: a, operator: Near}],"),
        "Pod team/a: spec.tolerations[0].operator",
    ),
    "a negative grace period": (
        waiting(field="terminationGracePeriodSeconds: -1,"),
        "Pod team/a: spec.terminationGracePeriodSeconds",
    ),
    "a pod of ten thousand containers": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n"
        + "".join(f"  - {{name: c{index}}}\n" for index in range(10_000)),
        "Pod a: spec.containers: must have at most",
    ),
    "a NodePool without nodeClassRef": (
        pool().replace("nodeClassRef", "forgotten"),
        "NodePool gpu: spec.template.spec.nodeClassRef",
    ),
    "a NodePool's unknown operator": (
        pool(requirement="{key: a, operator: Near}"),
        "NodePool gpu: spec.template.spec.requirements[0].operator",
    ),
    "a NodePool that asks for its own label": (
        pool(requirement="{key: karpenter.sh/nodepool, operator: Exists}"),
        "NodePool gpu: spec.template.spec.requirements: karpenter.sh/nodepool: label domain",
    ),
    "a weight beyond its bound": (pool("weight: 101"), "NodePool gpu: spec.weight"),
    "a weight in quotes": (pool("weight: '5'"), "NodePool gpu: spec.weight"),
    "a negative limit": (pool("limits: {cpu: -5}"), "NodePool gpu: spec.limits: cpu"),
    "kubelet settings that are no number": (
        node_class(pods="many"),
        "EC2NodeClass gpu: spec.kubelet: maxPods",
    ),
    "GPU sharing that makes no sense": (
        node_class(sharing="mig=9g.1tb"),
        "EC2NodeClass gpu: metadata.annotations[outrider.dev/gpu-sharing]",
    ),
}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command; return the one line that it ends with."""
    began = time.process_time()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    spent = time.process_time() - began
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("outrider: ")
    assert len(shown.err) < 1000
    assert spent < SECONDS
    return shown.err


CASES = [
    (name, verb)
    for name in BAD
    for verb in (["plan"], ["explain", "team/a"], ["disrupt"])
    if verb == ["plan"] or "ten megabytes" not in name  # as slow for one verb as for another
]


@pytest.mark.parametrize(("name", "verb"), CASES)
def test_bad_manifests(
    name: str, verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every verb that reads manifests says which file, object and field is wrong."""
    text, fault = BAD[name]
    path = tmp_path / "in.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    said = refused([*verb, str(path)], capsys)
    assert str(path) in said
    assert fault in said


def test_the_second_of_two_files_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the file that is wrong, and for a clash both."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(waiting("1"))
    two.write_text(waiting("lots"))
    assert str(two) in refused(["plan", str(one), str(two)], capsys)
    two.write_text(waiting("2"))
    said = refused(["plan", str(one), str(two)], capsys)
    assert str(one) in said
    assert str(two) in said


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there, a link to nowhere and an empty folder are named."""
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "nowhere")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing to plan")
    (tmp_path / "in.yaml").write_text(waiting())
    assert "No such file" in refused(["plan", str(tmp_path / "ghost.yaml")], capsys)
    assert str(link) in refused(["plan", str(link)], capsys)
    assert "there is no document" in refused(["plan", str(folder)], capsys)
    said = refused(["plan", str(tmp_path / "in.yaml"), "--catalog", str(folder)], capsys)
    assert str(folder) in said


TYPE = builders.instance_type("g6.xlarge", gpu=1)
CATALOGUES: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "is not JSON"),
    "a list": ([], "catalogue: must be an object"),
    "no types": ({}, "catalogue: instanceTypes: must be a list"),
    "a type that is text": ({"instanceTypes": ["a"]}, "instanceTypes[0]: must be an object"),
    "a type without a name": (
        {"instanceTypes": [{key: TYPE[key] for key in TYPE if key != "name"}]},
        "instanceTypes[0].name",
    ),
    "a type without capacity or ec2": (
        {"instanceTypes": [{key: TYPE[key] for key in TYPE if key != "capacity"}]},
        "instance type g6.xlarge: capacity: is missing",
    ),
    "a type without offerings": (
        {"instanceTypes": [{key: TYPE[key] for key in TYPE if key != "offerings"}]},
        "instance type g6.xlarge: offerings",
    ),
    "the same type twice, differing": (
        {"instanceTypes": [TYPE, {**TYPE, "capacity": {"cpu": "1"}}]},
        "instance type g6.xlarge: is listed twice",
    ),
    "a bad quantity": (
        {"instanceTypes": [{**TYPE, "capacity": {"cpu": "four"}}]},
        "instance type g6.xlarge: capacity.cpu",
    ),
    "a negative price": (
        {"instanceTypes": [{**TYPE, "offerings": [builders.offering("z", "spot", -1)]}]},
        "instance type g6.xlarge: offerings[0].pricePerHour",
    ),
    "an unknown capacity type": (
        {"instanceTypes": [{**TYPE, "offerings": [builders.offering("z", "free", 1)]}]},
        "instance type g6.xlarge: offerings[0].capacityType",
    ),
    "an unknown operator": (
        {"instanceTypes": [{**TYPE, "requirements": [{"key": "a", "operator": "Near"}]}]},
        "instance type g6.xlarge: requirements[0].operator",
    ),
    "a requirement without an operator": (
        {"instanceTypes": [{**TYPE, "requirements": [{"key": "a"}]}]},
        "instance type g6.xlarge: requirements[0].operator",
    ),
    "EC2 facts without memory": (
        {"instanceTypes": [{"name": "a", "ec2": {"vcpu": 4}, "offerings": []}]},
        "instance type a: ec2.memoryMiB",
    ),
}


@pytest.mark.parametrize("name", CATALOGUES)
def test_bad_catalogues(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A catalogue is held to its contract, type by type and field by field."""
    content, fault = CATALOGUES[name]
    manifests, catalog = tmp_path / "in.yaml", tmp_path / "catalog.json"
    manifests.write_text(waiting() + "---" + pool())
    catalog.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    said = refused(["plan", str(manifests), "--catalog", str(catalog)], capsys)
    assert str(catalog) in said
    assert fault in said


@pytest.mark.parametrize(
    "flags",
    [
        ["--now", "tomorrow"],
        ["--now", "2026-13-01T00:00:00Z"],
        ["--now", "2026-01-01T00:00:00"],
        ["--deadline", "0"],
        ["--deadline", "-1"],
        ["--deadline", "soon"],
        ["--deadline", "nan"],
        ["--strategy", "magic"],
        ["-o", "xml"],
    ],
)
def test_bad_flags(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong flag is said in one line, and where to read more in another."""
    path = tmp_path / "in.yaml"
    path.write_text(waiting())
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(path), *flags])
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert shown.out == ""
    assert 1 <= shown.err.count("\n") <= 2
    assert flags[0] in shown.err
    assert "Traceback" not in shown.err


def test_standard_input_is_read_alike() -> None:
    """From a pipe, in a process of its own: the same status, the same line, no output."""
    ended = subprocess.run(
        [sys.executable, "-m", "outrider.cli.main", "plan", "-"],
        input=waiting("lots").encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert ended.stderr.startswith(b"outrider: standard input: Pod team/a: ")
    assert ended.stderr.count(b"\n") == 1
