"""User data as an operating system reads it."""

from __future__ import annotations

import pytest

from outrider.local.kube.kubelets import UserDataError, parse
from tests.unit.local_kube.conftest import user_data

BOTTLEROCKET = """
[settings.kubernetes]
cluster-name = "local"
api-server = "https://127.0.0.1:6443"
cluster-certificate = "Q0E="
cluster-dns-ip = "10.100.0.10"
max-pods = 110

[settings.kubernetes.kube-reserved]
cpu = "100m"

[settings.kubernetes.node-labels]
"karpenter.sh/nodepool" = "gpu"

[settings.kubernetes.node-taints]
"nvidia.com/gpu" = ["true:NoSchedule"]
"karpenter.sh/unregistered" = [":NoExecute"]

[settings.kubelet-device-plugins.nvidia]
device-sharing-strategy = "time-slicing"

[settings.kubelet-device-plugins.nvidia.time-slicing]
replicas = 4
"""
CONFIG = """apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  kubelet:
    config: {maxPods: 20, evictionHard: {memory.available: 5%}}
    flags: ["--node-labels=team=ml", "--register-with-taints=a=b:NoSchedule,c:NoExecute"]
  instance:
    localStorage: {strategy: RAID0}
"""


def parts(*documents: str) -> str:
    """Return MIME user data with one NodeConfig a part, and a shell script."""
    text = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="//"\n\n'
    text += "--//\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho hello\n"
    for one in documents:
        text += f"--//\nContent-Type: application/node.eks.aws\n\n{one}\n"
    return text + "--//--\n"


def own_part() -> str:
    """Return the NodeConfig of the test suite's user data."""
    return user_data().partition("node.eks.aws\n\n")[2].partition("--BOUNDARY--")[0]


def test_later_node_configs_win_and_flags_add_up() -> None:
    """Maps merge deeply with the later value, kubelet flags are appended."""
    settings = parse(parts(CONFIG, own_part()))
    assert settings.dialect == "AL2023"
    assert settings.max_pods == 58
    assert settings.labels["team"] == "ml"
    assert settings.labels["karpenter.sh/nodepool"] == "gpu"
    assert settings.eviction_hard == {"memory.available": "5%"}
    assert [one["key"] for one in settings.taints] == ["a", "c"]
    assert settings.images_on_instance_store


def test_disabled_mounts_keep_the_seed_visible() -> None:
    """RAID0 without containerd leaves the images on the volume."""
    keeps = CONFIG.replace("strategy: RAID0", "strategy: RAID0, disabledMounts: [Containerd]")
    settings = parse(parts(keeps, own_part()))
    assert settings.instance_store
    assert not settings.images_on_instance_store


def test_bottlerocket_settings_are_read() -> None:
    """TOML: labels, taints as value:Effect, reservations, shared GPUs."""
    settings = parse(BOTTLEROCKET)
    assert settings.dialect == "Bottlerocket"
    assert settings.max_pods == 110
    assert settings.cluster_dns == "10.100.0.10"
    assert settings.kube_reserved == {"cpu": "100m"}
    assert {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"} in settings.taints
    assert {"key": "karpenter.sh/unregistered", "effect": "NoExecute"} in settings.taints
    assert settings.gpu_replicas == 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (parts(), "no part"),
        (parts(CONFIG), "cluster.name is missing"),
        (user_data().replace("cidr: 10.100.0.0/16", ""), "cidr is missing"),
        (user_data().replace("v1alpha1", "v9"), "unknown NodeConfig version"),
        (user_data(taints="[{key: a, effect: Never}]"), "is no taint"),
        (user_data().replace("karpenter.sh/nodepool=gpu", "kubernetes.io/role=x"), "may not set"),
        (user_data().replace("maxPods: 58", "maxPods: many"), "is no number"),
        (user_data().replace("--node-labels=", "node-labels "), "does not know the flag"),
        (BOTTLEROCKET.replace("= 110", '= "110"'), "must be an integer"),
        (BOTTLEROCKET.replace("true:NoSchedule", "NoSchedule"), "no value:Effect"),
        (BOTTLEROCKET.replace('cluster-name = "local"', ""), "cluster-name is missing"),
        (BOTTLEROCKET + "\n[settings", "no TOML"),
    ],
)
def test_mistakes_are_named(text: str, why: str) -> None:
    """What keeps a real node from joining is an error that says what it is."""
    with pytest.raises(UserDataError, match=why):
        parse(text)
