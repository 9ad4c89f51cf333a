"""User data read as an instance's operating system reads it: nodeadm's NodeConfig, Bottlerocket's
TOML.

Written against the formats' own documentation and not against outrider's writer, so that a mistake
of the writer is seen: a missing cluster field, a label that the kubelet may not set on itself, a
taint that does not parse each keep the node from joining, as they would in EC2. Refuses to know
instances.
"""

from __future__ import annotations

import email
import email.policy
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

NODE_CONFIG = "application/node.eks.aws"
_EFFECTS = frozenset({"NoSchedule", "PreferNoSchedule", "NoExecute"})
_ALLOWED_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)
_ALLOWED_SPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")


class UserDataError(Exception):
    """The node cannot join with this user data; the message says why."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What user data says about a node."""

    dialect: str  # AL2023 or Bottlerocket
    cluster: str
    endpoint: str
    authority: str  # base64, as written
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[dict[str, str], ...] = ()
    max_pods: int | None = None
    kube_reserved: Mapping[str, str] = field(default_factory=dict)
    system_reserved: Mapping[str, str] = field(default_factory=dict)
    eviction_hard: Mapping[str, str] = field(default_factory=dict)
    cluster_dns: str = ""
    instance_store: bool = False  # RAID0 holds kubelet, containerd and logs
    images_on_instance_store: bool = False  # and so hides the images of a seeded volume
    gpu_replicas: int = 1
    gpu_renamed: bool = False


def parse(text: str) -> NodeSettings:
    """Read user data, or raise UserDataError."""
    stripped = text.lstrip()
    if not stripped:
        raise UserDataError("there is no user data: nothing names the cluster")
    head = stripped[:4096].lower()
    if "mime-version:" in head or head.startswith("content-type:"):
        return _node_config(list(_mime_documents(stripped)))
    if re.search(r"^\s*apiversion:\s*node\.eks\.aws/", head, re.MULTILINE):
        return _node_config(_documents(stripped))
    if re.search(r"^\s*\[?\s*settings[.\]]", head, re.MULTILINE):
        return _bottlerocket(stripped)
    raise UserDataError(
        "neither MIME nor a NodeConfig nor Bottlerocket settings: nothing names the cluster"
    )


def _mime_documents(text: str) -> Iterator[Mapping[str, Any]]:
    message = email.message_from_string(text, policy=email.policy.default)
    if not message.is_multipart():
        raise UserDataError("the MIME user data has no parts")
    if message.defects:
        raise UserDataError(f"the MIME user data is broken: {message.defects[0]!r}")
    for part in message.walk():
        if part.get_content_type() == NODE_CONFIG:
            payload = part.get_payload(decode=True)
            content = payload.decode() if isinstance(payload, bytes) else str(payload)
            yield from _documents(content)


def _documents(text: str) -> list[Mapping[str, Any]]:
    try:
        found = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as cause:
        raise UserDataError(f"a NodeConfig is no YAML: {cause}") from cause
    for one in found:
        if not isinstance(one, Mapping) or one.get("kind") != "NodeConfig":
            raise UserDataError("a document of type node.eks.aws is no NodeConfig")
        if one.get("apiVersion") != "node.eks.aws/v1alpha1":
            raise UserDataError(f"unknown NodeConfig version {one.get('apiVersion')!r}")
    return found


def _merged(one: Any, other: Any, path: str = "") -> Any:
    """Lay *other* over *one* as nodeadm does: maps deeply, kubelet flags appended, the rest
    replaced.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [*one, *(key for key in other if key not in one)]
        return {
            key: _merged(one[key], other[key], f"{path}.{key}")
            if key in one and key in other
            else other.get(key, one.get(key))
            for key in keys
        }
    if path == ".kubelet.flags" and isinstance(one, list) and isinstance(other, list):
        return one + other
    return other


def _node_config(documents: list[Mapping[str, Any]]) -> NodeSettings:
    if not documents:
        raise UserDataError("no part of the user data is a NodeConfig")
    spec: Mapping[str, Any] = {}
    for one in documents:
        spec = _merged(spec, one.get("spec") or {})
    cluster = spec.get("cluster") or {}
    for name in ("name", "apiServerEndpoint", "certificateAuthority", "cidr"):
        if not cluster.get(name):
            raise UserDataError(f"NodeConfig spec.cluster.{name} is missing")
    kubelet = spec.get("kubelet") or {}
    config = kubelet.get("config") or {}
    flags = _flags(kubelet.get("flags") or [])
    storage = (spec.get("instance") or {}).get("localStorage") or {}
    raid = storage.get("strategy") in {"RAID0", "RAID10"}
    labels = _checked_labels(dict(_pairs(flags.get("--node-labels", ""))))
    taints = [_checked_taint(one) for one in config.get("registerWithTaints") or ()]
    taints += [
        _flag_taint(one) for one in filter(None, flags.get("--register-with-taints", "").split(","))
    ]
    dns = config.get("clusterDNS") or [""]
    limit = flags.get("--max-pods", config.get("maxPods"))
    return NodeSettings(
        dialect="AL2023",
        cluster=str(cluster["name"]),
        endpoint=str(cluster["apiServerEndpoint"]),
        authority=str(cluster["certificateAuthority"]),
        labels=labels,
        taints=tuple(taints),
        max_pods=_count(limit, "maxPods"),
        kube_reserved=_texts(config.get("kubeReserved")),
        system_reserved=_texts(config.get("systemReserved")),
        eviction_hard=_texts(config.get("evictionHard")),
        cluster_dns=str(dns[0]),
        instance_store=raid,
        images_on_instance_store=raid and "Containerd" not in (storage.get("disabledMounts") or ()),
    )


def _flags(flags: Any) -> dict[str, str]:
    if not isinstance(flags, list):
        raise UserDataError("NodeConfig spec.kubelet.flags is no list")
    found: dict[str, str] = {}
    for flag in flags:
        name, equals, value = str(flag).partition("=")
        if not name.startswith("--") or not equals:
            raise UserDataError(f"the kubelet does not know the flag {flag!r}")
        found[name] = (
            f"{found[name]},{value}" if name == "--node-labels" and name in found else value
        )
    return found


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in filter(None, text.strip('"').split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise UserDataError(f"--node-labels: {pair!r} is no key=value")
        yield key, value


def _checked_labels(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        space = key.partition("/")[0] if "/" in key else ""
        reserved = any(
            space == one or space.endswith(f".{one}") for one in ("kubernetes.io", "k8s.io")
        )
        allowed = key in _ALLOWED_LABELS or any(
            space == one or space.endswith(f".{one}") for one in _ALLOWED_SPACES
        )
        if reserved and not allowed:
            raise UserDataError(f"--node-labels: the kubelet may not set {key!r} on its own node")
    return labels


def _checked_taint(taint: Any) -> dict[str, str]:
    if (
        not isinstance(taint, Mapping)
        or not taint.get("key")
        or taint.get("effect") not in _EFFECTS
    ):
        raise UserDataError(f"registerWithTaints: {taint!r} is no taint")
    return {name: str(taint[name]) for name in ("key", "value", "effect") if taint.get(name)}


def _flag_taint(text: str) -> dict[str, str]:
    rest, colon, effect = text.rpartition(":")
    key, _, value = rest.partition("=")
    if not colon:
        raise UserDataError(f"--register-with-taints: {text!r} is no taint")
    return _checked_taint({"key": key, "value": value, "effect": effect})


def _texts(values: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in (values or {}).items()}


def _count(value: Any, name: str) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise UserDataError(f"{name}: {value!r} is no number") from None


def _bottlerocket(text: str) -> NodeSettings:
    try:
        settings = tomllib.loads(text).get("settings") or {}
    except tomllib.TOMLDecodeError as cause:
        raise UserDataError(f"the settings are no TOML: {cause}") from cause
    kubernetes = settings.get("kubernetes") or {}
    for name in ("cluster-name", "api-server", "cluster-certificate"):
        if not kubernetes.get(name):
            raise UserDataError(f"settings.kubernetes.{name} is missing")
    limit = kubernetes.get("max-pods")
    if limit is not None and not isinstance(limit, int):
        raise UserDataError("settings.kubernetes.max-pods must be an integer")
    dns = kubernetes.get("cluster-dns-ip") or ""
    replicas, renamed = _sharing((settings.get("kubelet-device-plugins") or {}).get("nvidia") or {})
    commands = settings.get("bootstrap-commands") or {}
    bound = _bound_folders(commands)
    return NodeSettings(
        dialect="Bottlerocket",
        cluster=str(kubernetes["cluster-name"]),
        endpoint=str(kubernetes["api-server"]),
        authority=str(kubernetes["cluster-certificate"]),
        labels=_checked_labels(_texts(kubernetes.get("node-labels"))),
        taints=tuple(_toml_taints(kubernetes.get("node-taints") or {})),
        max_pods=limit,
        kube_reserved=_texts(kubernetes.get("kube-reserved")),
        system_reserved=_texts(kubernetes.get("system-reserved")),
        eviction_hard=_texts(kubernetes.get("eviction-hard")),
        cluster_dns=str(dns[0] if isinstance(dns, list) else dns),
        instance_store=bool(bound),
        images_on_instance_store="/var/lib/containerd" in bound,
        gpu_replicas=replicas,
        gpu_renamed=renamed,
    )


def _toml_taints(taints: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for key, values in taints.items():
        for text in values if isinstance(values, list) else [values]:
            value, colon, effect = str(text).rpartition(":")
            if not colon:
                raise UserDataError(f"settings.kubernetes.node-taints: {text!r} is no value:Effect")
            yield _checked_taint({"key": key, "value": value, "effect": effect})


def _sharing(nvidia: Mapping[str, Any]) -> tuple[int, bool]:
    strategy = nvidia.get("device-sharing-strategy")
    if strategy in {"time-slicing", "mps"}:
        chosen = nvidia.get(strategy) or {}
        return int(chosen.get("replicas", 1)), bool(chosen.get("rename-by-default"))
    return 1, False


def _bound_folders(commands: Mapping[str, Any]) -> set[str]:
    folders: set[str] = set()
    default = {"/var/lib/containerd", "/var/lib/kubelet", "/var/log/pods"}
    for entry in commands.values():
        for command in entry.get("commands") or ():
            if list(command[:3]) == ["apiclient", "ephemeral-storage", "bind"]:
                folders |= set(command[4:]) if "--dirs" in command else default
    return folders
