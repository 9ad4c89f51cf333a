"""User data for Bottlerocket: TOML settings, the user's merged under ours.

A user's table is kept and ours wins key by key, as with Karpenter: the cluster's identity, labels,
taints and max pods cannot be overridden; everything else can be added. Instance storage is bound by
a bootstrap command; for a seeded node containerd's directory is left off its list, because the data
volume that holds the images is already mounted there and NVMe would hide it.

Refuses to know how the AMI or the volume was chosen. Bottlerocket takes no podsPerCore.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from outrider.apis.placement import Taint
from outrider.core.launch.bootstrap import NodeBootstrap
from outrider.errors import InvalidManifest

Table = Mapping[str, Any]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

# KubeletConfiguration field -> Bottlerocket setting
_KUBELET = {
    "cpuCFSQuota": "cpu-cfs-quota-enforced",
    "imageGCHighThresholdPercent": "image-gc-high-threshold-percent",
    "imageGCLowThresholdPercent": "image-gc-low-threshold-percent",
    "evictionHard": "eviction-hard",
    "evictionSoft": "eviction-soft",
    "evictionSoftGracePeriod": "eviction-soft-grace-period",
    "evictionMaxPodGracePeriod": "eviction-max-pod-grace-period",
    "kubeReserved": "kube-reserved",
    "systemReserved": "system-reserved",
}
_AS_TEXT = frozenset({"image-gc-high-threshold-percent", "image-gc-low-threshold-percent"})


def render(node: NodeBootstrap, custom: str | None = None) -> str:
    """Return the user data of *node*, the user's *custom* settings kept where ours say nothing."""
    try:
        given = tomllib.loads(custom or "")
    except tomllib.TOMLDecodeError as error:
        raise InvalidManifest(f"is not TOML: {error}", path="spec.userData") from error
    return write(_merge(given, {"settings": settings(node)}))


def settings(node: NodeBootstrap) -> dict[str, Any]:
    """Return our settings for *node*."""
    kubernetes: dict[str, Any] = {
        "cluster-name": node.cluster.name,
        "api-server": node.cluster.endpoint,
        "cluster-certificate": node.cluster.certificate_authority,
        **_kubelet(node.kubelet),
    }
    if node.dns:
        kubernetes["cluster-dns-ip"] = node.dns[0] if len(node.dns) == 1 else list(node.dns)
    if node.max_pods is not None:
        kubernetes["max-pods"] = node.max_pods
    kubernetes["node-labels"] = dict(sorted(node.labels.items()))
    kubernetes["node-taints"] = _taints(node.registered_taints)
    result: dict[str, Any] = {"kubernetes": kubernetes}
    if node.local_storage:
        bind = ["apiclient", "ephemeral-storage", "bind"]
        if node.seeded:
            bind += ["--dirs", "/var/lib/kubelet", "/var/log/pods"]
        result["bootstrap-commands"] = {
            "000-mount-instance-storage": {
                "commands": [["apiclient", "ephemeral-storage", "init"], bind],
                "mode": "always",
                "essential": True,
            }
        }
    return result


def write(table: Table) -> str:
    """Return *table* as TOML: scalars first, then sub-tables, in a fixed order."""
    return "\n".join(_lines(table, ())).lstrip("\n") + "\n"


def _kubelet(kubelet: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for field, name in _KUBELET.items():
        if (value := kubelet.get(field)) is not None:
            result[name] = str(value) if name in _AS_TEXT else value
    return result


def _taints(taints: tuple[Taint, ...]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for taint in taints:
        result.setdefault(taint.key, []).append(f"{taint.value}:{taint.effect}")
    return result


def _merge(under: Table, over: Table) -> dict[str, Any]:
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        nested = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[key] = _merge(below, value) if nested else value  # type: ignore[arg-type]
    return result


def _lines(table: Table, path: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    scalars = {key: value for key, value in table.items() if not _is_table(value)}
    if path and (scalars or not table):
        lines += ["", f"[{'.'.join(_key(part) for part in path)}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in sorted(scalars.items())]
    for key, value in sorted(table.items()):
        if isinstance(value, Mapping):
            lines += _lines(value, (*path, key))
        elif _is_table(value):
            for entry in value:
                lines += ["", f"[[{'.'.join(_key(part) for part in (*path, key))}]]"]
                lines += [
                    f"{_key(name)} = {_value(inner)}" for name, inner in sorted(entry.items())
                ]
    return lines


def _is_table(value: object) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(entry)}" for key, entry in sorted(value.items()))
        return "{" + inner + "}"
    return _text(str(value))


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m.group()):04x}", escaped) + '"'
