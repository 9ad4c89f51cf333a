"""Whatever is done to a manifest, the command answers: a plan, or one line that says what is wrong.

A cluster of every kind that is read is damaged at random: fields vanish, or become something else.
The command runs in this process; nothing is mocked. There is no third outcome: no traceback, no
half-written answer, no error without the object's name.
"""

from __future__ import annotations

import copy
import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.cli.main import main
from tests.support import builders as b

Json = dict[str, Any]
ZONE = b.ZONES[0]


def _thing(version: str, kind: str, name: str, **rest: Any) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **rest}


TEMPLATE = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}}
CLUSTER: tuple[Json, ...] = (
    b.pod(
        "a",
        gpu=1,
        memory="2Gi",
        labels={"app": "a"},
        selector={"kubernetes.io/arch": "amd64"},
        required=[b.expression("topology.kubernetes.io/zone", "In", *b.ZONES)],
        preferred=[b.preference(5, b.expression("team", "Exists"))],
        tolerations=[b.tolerates("gpu", "NoSchedule")],
        spread=[b.spread("kubernetes.io/hostname", {"app": "a"})],
        near=[b.term("topology.kubernetes.io/zone", {"app": "a"})],
        apart=[b.term("kubernetes.io/hostname", {"app": "z"})],
        claims=["data"],
        host_port=8080,
    ),
    b.pod("b", cpu="500m", node="n1", owner=("ReplicaSet", "rs")),
    b.nodepool(),
    b.nodeclass(),
    b.nodeclaim(),
    b.node("n1"),
    b.daemonset(),
    b.claim("data"),
    b.volume("pv", [b.expression("topology.kubernetes.io/zone", "In", ZONE)]),
    b.storage_class(),
    b.csi_node("n1", 20),
    _thing("v1", "Namespace", "default"),
    _thing("scheduling.k8s.io/v1", "PriorityClass", "high", value=1000),
    _thing("node.k8s.io/v1", "RuntimeClass", "rc", overhead={"podFixed": {"cpu": "10m"}}),
    _thing("apps/v1", "Deployment", "d", spec={"replicas": 2, "template": TEMPLATE}),
    _thing(
        "policy/v1",
        "PodDisruptionBudget",
        "pdb",
        spec={"minAvailable": "50%", "selector": {"matchLabels": {"app": "a"}}},
        status={"disruptionsAllowed": 1},
    ),
    _thing(
        "karpenter.sh/v1alpha1",
        "NodeOverlay",
        "o",
        spec={
            "requirements": [b.expression("kubernetes.io/arch", "In", "amd64")],
            "priceAdjustment": "-10%",
        },
    ),
    _thing(
        "resource.k8s.io/v1",
        "DeviceClass",
        "gpus",
        spec={"selectors": [{"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}]},
    ),
    _thing(
        "resource.k8s.io/v1",
        "ResourceClaim",
        "rc",
        spec={"devices": {"requests": [{"name": "g", "exactly": {"deviceClassName": "gpus"}}]}},
    ),
    _thing(
        "autoscaling.x-k8s.io/v1beta1",
        "CapacityBuffer",
        "buffer",
        spec={"scalableRef": {"kind": "Deployment", "name": "d"}, "replicas": 1},
    ),
    _thing(
        "jobset.x-k8s.io/v1alpha2",
        "JobSet",
        "js",
        spec={"replicatedJobs": [{"name": "w", "replicas": 2, "template": {"spec": {}}}]},
    ),
)
GOODS = b.catalog(
    b.instance_type("g", cpu="8", gpu=1),
    b.instance_type("c", cpu="4"),
    {
        "name": "g6.xlarge",
        "ec2": {"vcpu": 4, "memoryMiB": 16384, "gpus": [{"name": "L4", "count": 1}]},
        "offerings": [b.offering(ZONE, "spot", 0.3)],
    },
)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 7, 10**18, 2**63, 1.5, "", "x", "-1", "1Qi", "1e9", "50%", "true", "a/b",
    "2026-01-01T00:00:00Z", "Never", "x" * 300, "Near", [], {}, [None], [[]], ["x"], [{}],
    {"x": 1}, {"x": None}, {"": ""}, {"key": "a", "operator": "In"}, {"cpu": "1", "memory": []},
    {"matchLabels": {"a": 1}}, {"name": "x"},
)  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything inside *node*."""
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


def damage(draw: st.DrawFn, whole: Any, times: int) -> None:
    """Replace, remove or add up to *times* things in *whole*, in place."""
    for _ in range(times):
        found = list(places(whole))
        if not found:
            return
        *steps, last = draw(st.sampled_from(found))
        here: Any = whole
        for step in steps:
            here = here[step]
        what = draw(st.sampled_from(("replace", "replace", "remove", "add")))
        value = copy.deepcopy(draw(st.sampled_from(VALUES)))
        if what == "remove":
            del here[last]
        elif what == "add" and isinstance(here, dict):
            here[draw(st.sampled_from(("replicas", "limits", "status", "spec", "weight")))] = value
        else:
            here[last] = value


@st.composite
def damaged(draw: st.DrawFn) -> list[Any]:
    """Return the cluster with one to three things in one of its objects gone wrong."""
    cluster = list(copy.deepcopy(CLUSTER))
    place = draw(st.integers(0, len(cluster) - 1))
    damage(draw, cluster[place], draw(st.integers(1, 3)))
    return cluster


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """Return the catalogue with one to three things gone wrong."""
    goods = copy.deepcopy(GOODS)
    damage(draw, goods, draw(st.integers(1, 3)))
    return goods


def run(verb: list[str], cluster: list[Any], goods: Any) -> tuple[int, str, str]:
    """Run the command on files; return its exit status and what it printed."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with tempfile.TemporaryDirectory() as folder:
        manifests, catalog = Path(folder, "in.yaml"), Path(folder, "catalog.json")
        text = b"\n---\n".join(orjson.dumps(item) for item in cluster)
        manifests.write_bytes(text)
        catalog.write_bytes(orjson.dumps(goods))
        arguments = [*verb, str(manifests), "--catalog", str(catalog), "-o", "json"]
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main(arguments)
    for stream in (out, err):
        stream.flush()
        stream.seek(0)
    return int(ended.value.code or 0), out.read(), err.read()


def judge(status: int, out: str, err: str) -> None:
    """Refuse anything but a plan, or one line that names the file and what is wrong."""
    assert "Traceback" not in err
    if status == 2:
        assert out == ""
        assert err.count("\n") == 1
        assert re.match(r"outrider: \S+/(in\.yaml|catalog\.json): \S", err), err
    else:
        assert status in {0, 3}
        assert err == ""
        assert isinstance(orjson.loads(out), dict)


_HOSTILE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@_HOSTILE
@given(damaged())
def test_damaged_manifests(cluster: list[Any]) -> None:
    """A damaged object is planned around or refused by name, never stumbled over."""
    judge(*run(["plan", "--strategy", "first-fit"], cluster, GOODS))


@_HOSTILE
@given(spoiled())
def test_spoiled_catalogues(goods: Any) -> None:
    """A damaged catalogue is read as far as it makes sense, or refused with the type's name."""
    judge(*run(["plan", "--strategy", "first-fit"], list(CLUSTER), goods))


@settings(parent=_HOSTILE, max_examples=40)
@given(damaged())
def test_the_other_verbs(cluster: list[Any]) -> None:
    """explain and disrupt read the same input, and end the same ways."""
    judge(*run(["disrupt"], cluster, GOODS))
    status, out, err = run(["explain", "default/a"], cluster, GOODS)
    if not (status == 2 and err.startswith("outrider: Pod default/a: is not ")):
        judge(status, out, err)
