"""User data, parsed back by the libraries that its readers use."""

from __future__ import annotations

import json
import tomllib
from email.parser import Parser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.catalog.family import Family
from outrider.core.launch.bootstrap import NodeBootstrap
from outrider.core.launch.userdata import bottlerocket, custom, mime, nodeadm, seeder
from outrider.core.seeding import Image
from outrider.core.taints import Taint
from outrider.errors import InvalidManifest
from tests.support.launches import CLUSTER


def _node(**changes: Any) -> NodeBootstrap:
    given_: dict[str, Any] = {
        "cluster": CLUSTER,
        "labels": {"karpenter.sh/nodepool": "gpu", "team": "ml"},
        "taints": (Taint("nvidia.com/gpu", "true", "NoSchedule"), Taint("spot", "", "NoExecute")),
        "max_pods": 110,
        "kubelet": {"evictionHard": {"memory.available": "5%"}, "imageGCHighThresholdPercent": 92},
    }
    return NodeBootstrap(**{**given_, **changes})


def _parts(text: str) -> list[tuple[str, str]]:
    document = Parser().parsestr(text)
    assert document.is_multipart()
    assert not document.defects
    return [(part.get_content_type(), str(part.get_payload())) for part in document.get_payload()]  # type: ignore[union-attr]


def _node_config(text: str) -> Any:
    kind, body = _parts(text)[-1]
    assert kind == "application/node.eks.aws"
    return json.loads(body)


def test_nodeadm_says_everything() -> None:
    """Cluster, labels, taints with the unregistered one, max pods, DNS and kubelet settings."""
    config = _node_config(nodeadm.render(_node()))
    assert config["apiVersion"] == "node.eks.aws/v1alpha1"
    assert config["spec"]["cluster"] == {
        "name": "prod",
        "apiServerEndpoint": CLUSTER.endpoint,
        "certificateAuthority": "Q0E=",
        "cidr": "172.20.0.0/16",
    }
    kubelet = config["spec"]["kubelet"]
    assert kubelet["flags"] == ["--node-labels=karpenter.sh/nodepool=gpu,team=ml"]
    assert kubelet["config"] == {
        "maxPods": 110,
        "clusterDNS": ["172.20.0.10"],
        "evictionHard": {"memory.available": "5%"},
        "imageGCHighThresholdPercent": 92,
        "registerWithTaints": [
            {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"},
            {"key": "spot", "effect": "NoExecute"},
            {"key": "karpenter.sh/unregistered", "effect": "NoExecute"},
        ],
    }
    assert "instance" not in config["spec"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("#!/bin/sh\necho hello\n", "text/x-shellscript"),
        ("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n", "application/node.eks.aws"),
        (
            mime.join([mime.Part("text/cloud-config", "runcmd: []")]),
            "text/cloud-config",
        ),
    ],
)
def test_nodeadm_keeps_the_users_part(text: str, kind: str) -> None:
    """A user's script, NodeConfig or MIME document comes first, our NodeConfig last."""
    parts = _parts(nodeadm.render(_node(), text))
    assert [one for one, _ in parts] == [kind, "application/node.eks.aws"]


def test_a_broken_document_is_refused() -> None:
    """User data that begins as MIME and is none is the node class's fault, by its field."""
    with pytest.raises(InvalidManifest, match="userData"):
        nodeadm.render(_node(), "MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nnothing")


def test_nvme_never_hides_a_seed() -> None:
    """RAID0 leaves containerd's directory alone on a seeded node, and the seed is mounted first."""
    plain = nodeadm.render(_node(local_storage=True))
    assert _node_config(plain)["spec"]["instance"] == {"localStorage": {"strategy": "RAID0"}}
    seeded = nodeadm.render(_node(local_storage=True, seeded=True, seed_device="/dev/xvdb"))
    storage = _node_config(seeded)["spec"]["instance"]["localStorage"]
    assert storage == {"strategy": "RAID0", "disabledMounts": ["Containerd"]}
    kind, script = _parts(seeded)[0]
    assert kind == "text/x-shellscript"
    assert "/dev/xvdb" in script
    commands = tomllib.loads(bottlerocket.render(_node(local_storage=True, seeded=True)))
    bind = commands["settings"]["bootstrap-commands"]["000-mount-instance-storage"]["commands"][1]
    assert bind[3:] == ["--dirs", "/var/lib/kubelet", "/var/log/pods"]


def test_bottlerocket_says_everything() -> None:
    """The same in Bottlerocket's settings: taints by key, thresholds as text, pods as a number."""
    kubernetes = tomllib.loads(bottlerocket.render(_node()))["settings"]["kubernetes"]
    assert kubernetes == {
        "cluster-name": "prod",
        "api-server": CLUSTER.endpoint,
        "cluster-certificate": "Q0E=",
        "cluster-dns-ip": "172.20.0.10",
        "max-pods": 110,
        "eviction-hard": {"memory.available": "5%"},
        "image-gc-high-threshold-percent": "92",
        "node-labels": {"karpenter.sh/nodepool": "gpu", "team": "ml"},
        "node-taints": {
            "nvidia.com/gpu": ["true:NoSchedule"],
            "spot": [":NoExecute"],
            "karpenter.sh/unregistered": [":NoExecute"],
        },
    }


def test_bottlerocket_merges_under_ours() -> None:
    """A user's settings are kept where ours say nothing, and ours win where both speak."""
    text = """
        [settings.kubernetes]
        cluster-name = "other"
        allowed-unsafe-sysctls = ["net.core.somaxconn"]
        [settings.kubernetes.node-labels]
        mine = "yes"
        [[settings.container-registry.mirrors]]
        registry = "docker.io"
        endpoint = ["https://mirror.example.com"]
    """
    merged = tomllib.loads(bottlerocket.render(_node(), text))["settings"]
    assert merged["kubernetes"]["cluster-name"] == "prod"
    assert merged["kubernetes"]["allowed-unsafe-sysctls"] == ["net.core.somaxconn"]
    assert merged["kubernetes"]["node-labels"]["mine"] == "yes"
    assert merged["container-registry"]["mirrors"][0]["registry"] == "docker.io"
    with pytest.raises(InvalidManifest, match="TOML"):
        bottlerocket.render(_node(), "[settings")


def test_custom_is_verbatim() -> None:
    """A custom AMI's user data is the user's business, to the byte."""
    assert custom.render(_node(), "#!/bin/sh\n") == "#!/bin/sh\n"


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    WORDS | st.booleans() | st.integers(-(2**40), 2**40),
    lambda inner: st.lists(WORDS, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(WORDS, VALUES, max_size=4))
def test_toml_round_trips(table: dict[str, Any]) -> None:
    """Whatever is written is read back the same."""
    assert tomllib.loads(bottlerocket.write(table)) == table


@pytest.mark.parametrize("family", [Family.AL2023, Family.BOTTLEROCKET])
def test_a_builder_pulls_by_name_and_digest(family: Family) -> None:
    """The builder's script names each image and the digest it must have; it holds no secret."""
    image = Image("reg.example.com/ml/trainer:v42", "sha256:" + "a" * 64, 1, ("amd64",))
    text = seeder.render([image], family)
    if family is Family.BOTTLEROCKET:
        import base64

        container = tomllib.loads(text)["settings"]["bootstrap-containers"]["seed"]
        text = base64.b64decode(container["user-data"]).decode()
    assert f"pull {image.reference} {image.digest}" in text
    assert "poweroff" in text


@pytest.mark.parametrize("reference", ["a; rm -rf /", "$(id)", "-x", "a b", "a\n", ""])
def test_a_builder_takes_no_commands(reference: str) -> None:
    """What is no image reference never becomes a word of a shell script."""
    with pytest.raises(InvalidManifest):
        seeder.render([Image(reference, "sha256:aa", 1, ())], Family.AL2023)


def test_a_builder_complains_on_its_console() -> None:
    """The reason of a failure is read from the console; other noise is nothing."""
    said = "boot ok\nOUTRIDER-SEED-FAILED reg/a:1: cannot be pulled\n"
    assert seeder.complaint(said) == "reg/a:1: cannot be pulled"
    assert seeder.complaint("boot ok\n") == ""
