"""`outrider disrupt`: the contract of its JSON, its exit status and its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from outrider.cli.main import main

NOW = "2026-03-02T14:00:00Z"
REFERENCE = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}
TYPES = {"m5.large": (2, 0.1), "m5.xlarge": (4, 0.2), "m5.4xlarge": (16, 0.8)}


def pool(**disruption: Any) -> dict[str, Any]:
    """Return a NodePool."""
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": "pool"},
        "spec": {
            "template": {"spec": {"nodeClassRef": REFERENCE}},
            "disruption": {"budgets": [{"nodes": "100%"}], **disruption},
        },
    }


def node(name: str, kind: str = "m5.4xlarge") -> dict[str, Any]:
    """Return a Node."""
    room = {"cpu": str(TYPES[kind][0]), "memory": "64Gi", "pods": "50"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "creationTimestamp": "2026-03-01T14:00:00Z",
            "labels": {
                "karpenter.sh/nodepool": "pool",
                "karpenter.sh/initialized": "true",
                "karpenter.sh/capacity-type": "on-demand",
                "node.kubernetes.io/instance-type": kind,
                "topology.kubernetes.io/zone": "us-east-1a",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/os": "linux",
            },
        },
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, on: str, cpu: str = "1") -> dict[str, Any]:
    """Return a running Pod of a ReplicaSet."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {
            "nodeName": on,
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}],
        },
        "status": {"phase": "Running", "startTime": "2026-03-01T14:00:00Z"},
    }


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command on manifests and the test's own catalogue."""
    types = [
        {
            "name": name,
            "requirements": [],
            "capacity": {"cpu": str(cpu), "memory": "64Gi", "pods": "50"},
            "offerings": [
                {"zone": "us-east-1a", "capacityType": "on-demand", "pricePerHour": price}
            ],
        }
        for name, (cpu, price) in TYPES.items()
    ]
    prices = tmp_path / "catalog.json"
    prices.write_text(json.dumps({"instanceTypes": types}))

    def ran(*documents: dict[str, Any], flags: tuple[str, ...] = ("-o", "json")) -> tuple[int, str]:
        manifests = tmp_path / "cluster.yaml"
        manifests.write_text(yaml.safe_dump_all(documents))
        given = ["disrupt", str(manifests), "--catalog", str(prices), "--now", NOW, *flags]
        with pytest.raises(SystemExit) as ended:
            main(given)
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out or captured.err

    return ran


def test_the_document_is_the_contracts(run: Any) -> None:
    """Commands, blocked and summary have exactly the contract's names."""
    status, text = run(pool(), node("n1"), node("n2", "m5.large"), pod("a", "n1"))
    assert status == 0
    document = json.loads(text)
    assert set(document) == {"commands", "blocked", "summary"}
    reasons = [command["reason"] for command in document["commands"]]
    assert reasons == ["Empty", "Underutilized"]
    for command in document["commands"]:
        assert {"reason", "nodes", "launches", "placements", "savingsPerHour"} <= set(command)
    launch = document["commands"][1]["launches"][0]
    assert launch["instanceTypes"] == ["m5.large", "m5.xlarge"]
    assert document["summary"] == {"pricePerHourBefore": 0.9, "pricePerHourAfter": 0.1}


def test_launches_say_no_more_than_they_may_buy(run: Any) -> None:
    """A type that was cut for its price is not among the requirements either."""
    _, text = run(pool(), node("n1"), pod("a", "n1"))
    (launch,) = json.loads(text)["commands"][0]["launches"]
    allowed = {entry["key"]: entry.get("values") for entry in launch["requirements"]}
    assert allowed["node.kubernetes.io/instance-type"] == ["m5.large", "m5.xlarge"]


def test_who_stays_is_listed_with_a_code(run: Any) -> None:
    """Every node of ours that no command names says why; no command is no failure."""
    status, text = run(pool(consolidateAfter="Never"), node("n1"), pod("a", "n1"))
    assert status == 0
    document = json.loads(text)
    assert document["commands"] == []
    assert [(item["node"], item["code"]) for item in document["blocked"]] == [
        ("n1", "ConsolidateAfter")
    ]


def test_until_done_ends_where_nothing_is_saved(run: Any) -> None:
    """Passes follow each other past budgets and consolidateAfter; launch names are unique."""
    documents = [
        pool(budgets=[{"nodes": "1"}], consolidateAfter="5m"),
        *(node(f"n{place}") for place in range(4)),
        *(pod(f"p{place}", f"n{place}") for place in range(4)),
    ]
    _, text = run(*documents)
    assert len(json.loads(text)["commands"]) == 1
    _, text = run(*documents, flags=("--until-done", "-o", "json"))
    done = json.loads(text)
    names = [launch["name"] for command in done["commands"] for launch in command["launches"]]
    assert len(names) == len(set(names))
    assert done["summary"]["pricePerHourAfter"] == pytest.approx(0.2)


def test_the_same_input_gives_the_same_output(run: Any) -> None:
    """Byte for byte, in any order of documents."""
    documents = [pool(), node("n1"), node("n2", "m5.large"), pod("a", "n1"), pod("b", "n2")]
    assert run(*documents) == run(*reversed(documents))


def test_a_table_for_people(run: Any) -> None:
    """The default shows commands, who stays, and the prices."""
    status, text = run(pool(), node("n1"), pod("a", "n1"), flags=())
    assert status == 0
    assert "$0.8000/h before" in text


def test_bad_input_is_one_line(run: Any) -> None:
    """Status 2, the object and the field, nothing on standard output."""
    bad = pool()
    bad["spec"]["disruption"]["budgets"] = [{"nodes": "many"}]
    status, text = run(bad)
    assert status == 2
    assert "NodePool pool: spec.disruption.budgets[0].nodes" in text
    assert len(text.strip().splitlines()) == 1


def test_help_has_an_example() -> None:
    """Every verb's help ends with one."""
    from outrider.cli.disrupt import command

    assert "Example:" in CliRunner().invoke(command, ["--help"]).output


def test_the_example_shows_who_goes_and_who_is_blocked_by_what(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The shipped cluster has every kind of node that stays, each with its own reason."""
    example = Path(__file__).parents[3] / "examples" / "disrupt"
    with pytest.raises(SystemExit) as ended:
        main(["disrupt", str(example), "--now", NOW, "-o", "json"])
    assert not ended.value.code
    document = json.loads(capsys.readouterr().out)
    assert {name for item in document["commands"] for name in item["nodes"]} == {
        "web-1",
        "web-3",
        "web-4",
    }
    assert {item["node"]: item["code"] for item in document["blocked"]} == {
        "batch-1": "PolicyForbids",
        "calm-1": "Budget",
        "db-1": "PodDisruptionBudget",
        "edge-1": "StaticPool",
        "edge-2": "StaticPool",
        "joining-1": "NotInitialized",
        "paused-1": "Paused",
        "train-1": "DoNotDisrupt",
        "web-2": "Nominated",
    }
