"""User data for Amazon Linux 2023: nodeadm's NodeConfig in MIME parts.

A user's own user data (MIME, a bare NodeConfig, or a script) comes first; our NodeConfig comes last
and wins, as with Karpenter. NodeConfig is written as JSON, which is YAML too.

A seeded volume holds containerd's store on its own device. nodeadm's RAID0 would bind-mount the
NVMe array over /var/lib/containerd and hide it, so that mount is disabled for a seeded node, and a
script that cloud-init runs before nodeadm starts containerd mounts the seed in place.

Refuses to know how the AMI or the volume was chosen.
"""

from __future__ import annotations

import json
from typing import Any

from outrider.core.launch.bootstrap import NodeBootstrap
from outrider.core.launch.userdata import mime

API_VERSION = "node.eks.aws/v1alpha1"
CONTAINERD_ROOT = "/var/lib/containerd"

_MOUNT = """#!/bin/sh
# Images were unpacked onto this volume beforehand: containerd must find them before it starts.
set -eu
mkdir -p {root}
device=$(readlink -f {device} || true)
[ -b "$device" ] || device=$(readlink -f /dev/disk/by-label/outrider-seed)
mountpoint -q {root} || mount -t xfs -o nouuid,noatime "$device" {root}
"""


def render(node: NodeBootstrap, custom: str | None = None) -> str:
    """Return the user data of *node*, the user's *custom* one merged before ours."""
    parts = list(_custom(custom)) if custom and custom.strip() else []
    if node.seeded:
        script = _MOUNT.format(root=CONTAINERD_ROOT, device=node.seed_device)
        parts.append(mime.Part(mime.SHELL_SCRIPT, script))
    body = json.dumps(node_config(node), indent=2, sort_keys=True)
    parts.append(mime.Part(mime.NODE_CONFIG, body))
    return mime.join(parts)


def node_config(node: NodeBootstrap) -> dict[str, Any]:
    """Return our NodeConfig object for *node*."""
    kubelet = dict(node.kubelet)
    kubelet.pop("podsPerCore", None)  # the plan's max pods has it in already
    if node.max_pods is not None:
        kubelet["maxPods"] = node.max_pods
    if node.dns:
        kubelet["clusterDNS"] = list(node.dns)
    kubelet["registerWithTaints"] = [
        {"key": taint.key, "effect": taint.effect} | ({"value": taint.value} if taint.value else {})
        for taint in node.registered_taints
    ]
    spec: dict[str, Any] = {
        "cluster": {
            "name": node.cluster.name,
            "apiServerEndpoint": node.cluster.endpoint,
            "certificateAuthority": node.cluster.certificate_authority,
            "cidr": node.cluster.service_cidr,
        },
        "kubelet": {"config": kubelet},
    }
    if node.labels:
        pairs = ",".join(f"{key}={value}" for key, value in sorted(node.labels.items()))
        spec["kubelet"]["flags"] = [f"--node-labels={pairs}"]
    if node.local_storage:
        storage: dict[str, Any] = {"strategy": "RAID0"}
        if node.seeded:
            storage["disabledMounts"] = ["Containerd"]
        spec["instance"] = {"localStorage": storage}
    return {"apiVersion": API_VERSION, "kind": "NodeConfig", "spec": spec}


def _custom(text: str) -> tuple[mime.Part, ...]:
    if mime.is_multipart(text):
        return mime.split(text)
    if API_VERSION.split("/", maxsplit=1)[0] in text and "NodeConfig" in text:
        return (mime.Part(mime.NODE_CONFIG, text),)
    return (mime.Part(mime.SHELL_SCRIPT, text),)
