"""Reading manifests: what is understood, and how bad input ends.

Nothing is mocked: files are written, the command runs in this process.
"""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from outrider.cli import documents
from outrider.cli.main import main
from outrider.errors import InvalidManifest
from tests.support.builders import nodepool, pod

POD = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {containers: [{name: c, resources: {requests: {cpu: CPU}}}]}
"""
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{letter}: &{letter} [{', '.join(['*' + before] * 9)}]\n"
    for before, letter in zip("abcdefgh", "bcdefghi", strict=True)
)


def written(folder: Path, text: str | bytes, name: str = "in.yaml") -> str:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


BAD = {
    "not YAML": ("a: [1\nb: }", "is not YAML"),
    "binary": (bytes(range(256)) * 400, "is not UTF-8 text"),
    "zero bytes": ("a: \0", "is not text"),
    "no document": ("", "there is no document"),
    "a list": ("[1, 2]", "must be an object, not a list"),
    "text": ("hello", "must be an object, not text"),
    "no kind": ("a: 1", "kind: is required"),
    "aliases that explode": (BOMB + "kind: Pod\napiVersion: v1\n", "beyond all measure"),
    "an alias in itself": (
        "apiVersion: v1\nkind: Pod\nmetadata: &m {name: a, labels: *m}\n",
        "contains itself",
    ),
    "a bad quantity": (POD.replace("CPU", "1Qi"), "resources.requests.cpu: '1Qi'"),
    "a negative quantity": (POD.replace("CPU", "'-1'"), "is negative"),
    "no name": ("apiVersion: v1\nkind: Pod\nspec: {containers: [{name: c}]}", "metadata.name"),
    "the same twice, differing": (
        POD.replace("CPU", "1") + "---" + POD.replace("CPU", "2"),
        "is there twice",
    ),
    "ten thousand containers": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n"
        + "".join(f"  - {{name: c{index}}}\n" for index in range(10_000)),
        "spec.containers: must have at most 1000",
    ),
    "ten megabytes of junk": ("x: y\n" * 2_000_000, "no document in it has a kind"),
    "no nodeClassRef": (
        (
            "apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata: {name: p}\n"
            "spec: {template: {spec: {requirements: []}}}"
        ),
        "NodePool p: spec.template.spec.nodeClassRef",
    ),
    "an unknown operator": (
        (
            "apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata: {name: p}\n"
            "spec: {template: {spec: {nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass,"
            " name: c}, requirements: [{key: a, operator: Near}]}}}"
        ),
        "spec.template.spec.requirements[0].operator",
    ),
    "a key that is no text": ("apiVersion: v1\nkind: Pod\n1: 2\n", "is no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input ends with status 2, one line that names file and fault, and no output."""
    text, fault = BAD[name]
    path = written(tmp_path, text)
    with pytest.raises(SystemExit) as left:
        main(["plan", path])
    shown = capsys.readouterr()
    assert left.value.code == 2
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert path in shown.err
    assert fault in shown.err


def test_shares_of_a_device_and_odd_headroom(tmp_path: Path) -> None:
    """Half a GPU, which the API server refuses, and headroom that cannot be read are bad input."""
    half = orjson.dumps(pod(requests={"nvidia.com/gpu": "500m"}))
    with pytest.raises(InvalidManifest, match="must be an integer"):
        documents.read([written(tmp_path, half)])
    odd = orjson.dumps(nodepool(annotations={"outrider.dev/headroom": "cpu=many"}))
    with pytest.raises(InvalidManifest, match=r"NodePool default: annotation .*headroom"):
        documents.read([written(tmp_path, odd)])


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(InvalidManifest, match=r"nowhere\.yaml"):
        documents.read([str(tmp_path / "nowhere.yaml")])


def test_folders_lists_and_documents(tmp_path: Path) -> None:
    """A folder means every manifest in it; Lists and several documents are opened."""
    one = POD.replace("CPU", "1")
    written(tmp_path, one + "---" + one.replace("name: a", "name: b"), "pods.yaml")
    listing = {"apiVersion": "v1", "kind": "List", "items": [pod("c"), nodepool()]}
    written(tmp_path, orjson.dumps(listing), "list.json")
    written(tmp_path, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "other.yml")
    written(tmp_path, "not a manifest", "notes.txt")
    read = documents.read([str(tmp_path)])
    assert len(read.objects) == 4
    assert read.ignored == {"ConfigMap": 1}


def test_equal_twice_counts_once(tmp_path: Path) -> None:
    """The same object twice with equal content is one."""
    path = written(tmp_path, POD.replace("CPU", "1"))
    assert len(documents.read([path, path]).objects) == 1


def test_empty_list_is_an_empty_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty List plans nothing, and that is fine."""
    path = written(tmp_path, "apiVersion: v1\nkind: List\nitems: []\n")
    with pytest.raises(SystemExit) as left:
        main(["plan", path, "-o", "json"])
    assert left.value.code == 0
    assert orjson.loads(capsys.readouterr().out)["summary"]["pods"] == 0


def test_words_stay_words(tmp_path: Path) -> None:
    """`yes`, `on` and a date are text, as Kubernetes reads them; true is not."""
    path = written(
        tmp_path,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {x: yes, y: on, z: 2026-01-01}}\n"
        "spec: {containers: [{name: c}]}\n",
    )
    (read,) = documents.read([path]).objects
    assert read.labels == {"x": "yes", "y": "on", "z": "2026-01-01"}  # type: ignore[attr-defined]


def test_unplaced_pods_are_status_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan that leaves pods out is printed, and the status says so."""
    path = written(tmp_path, orjson.dumps(pod()), "pod.json")
    with pytest.raises(SystemExit) as left:
        main(["plan", path, "-o", "json"])
    assert left.value.code == 3
    answer = orjson.loads(capsys.readouterr().out)
    assert answer["unschedulable"][0]["reasons"] == [
        {"nodePool": "", "reason": "there is no NodePool", "code": "NodePoolNotReady"}
    ]


def test_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without -o json a person reads tables and one closing line."""
    path = written(
        tmp_path,
        orjson.dumps({"apiVersion": "v1", "kind": "List", "items": [pod(), nodepool()]}),
        "in.json",
    )
    with pytest.raises(SystemExit) as left:
        main(["plan", path])
    assert left.value.code == 0
    assert "1 of 1 pods placed, 1 launches" in capsys.readouterr().out


def test_explain_tells_the_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`explain` names each constraint and what it left, and what was chosen."""
    items = [pod(gpu=1), nodepool()]
    path = written(
        tmp_path, orjson.dumps({"apiVersion": "v1", "kind": "List", "items": items}), "in.json"
    )
    with pytest.raises(SystemExit) as left:
        main(["explain", "default/pod", path, "-o", "json"])
    assert left.value.code == 0
    story = orjson.loads(capsys.readouterr().out)
    (pool,) = story["nodePools"]
    resources = next(step for step in pool["constraints"] if step["constraint"] == "resources")
    assert "c5.large" in resources["droppedTypes"]
    assert story["launch"]["nodePool"] == "default"


def test_explain_of_a_stranger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pod that is not there is bad input."""
    path = written(tmp_path, orjson.dumps(pod()), "in.json")
    with pytest.raises(SystemExit) as left:
        main(["explain", "default/ghost", path])
    assert left.value.code == 2
    assert "Pod default/ghost" in capsys.readouterr().err


def test_wrong_flags_are_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong flag is said in one line, and where to read more in another."""
    with pytest.raises(SystemExit) as left:
        main(["plan", "--strategy", "magic", "x.yaml"])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_timings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--timings says how long the plan took, and the first one; without it nothing is timed."""
    items = [pod(), nodepool()]
    path = written(
        tmp_path, orjson.dumps({"apiVersion": "v1", "kind": "List", "items": items}), "in.json"
    )
    with pytest.raises(SystemExit):
        main(["plan", path, "-o", "json", "--timings"])
    summary = orjson.loads(capsys.readouterr().out)["summary"]
    assert 0 <= summary["firstPlanSeconds"] <= summary["planSeconds"]
    with pytest.raises(SystemExit):
        main(["plan", path, "-o", "json"])
    assert "planSeconds" not in capsys.readouterr().out
