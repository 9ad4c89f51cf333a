"""Which AMI an instance type boots: the node class's images, each with what it is made for.

An alias (`al2023@latest`, `bottlerocket@v1.46.0`) becomes SSM parameters, one a variant: standard
for plain types, nvidia for those with NVIDIA GPUs, neuron for those with Neuron devices, each for
amd64 and arm64 where it exists (events-fleet-seeding 4.4). Resolved images are in the class's
status with their requirements; the first that admits a type is its image, the list being sorted
newest first (F53).

Refuses to know how a parameter is read: the adapter resolves what `parameters` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.apis import labels
from outrider.apis.nodeclass import AMI, EC2NodeClass
from outrider.core.catalog.describe import PREFIX
from outrider.core.requirements import Requirements

GPU_COUNT = PREFIX + "gpu-count"
ACCELERATOR_COUNT = PREFIX + "accelerator-count"

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One SSM parameter that holds an AMI id, and the requirements of the types it is for."""

    path: str
    requirements: tuple[Entry, ...]


def parameters(node_class: EC2NodeClass, kubernetes_version: str) -> tuple[Parameter, ...]:
    """Return the SSM parameters of the class's alias; none where it has no alias."""
    alias = alias_of(node_class)
    if alias is None:
        return ()
    family, version = alias
    if family == "al2023":
        return tuple(
            Parameter(_al2023(arch, variant, kubernetes_version, version), _made_for(arch, variant))
            for arch, variant in _AL2023_VARIANTS
        )
    if family in {"bottlerocket", "bottlerocket-fips"}:
        fips = family.removeprefix("bottlerocket")
        return tuple(
            Parameter(
                f"/aws/service/bottlerocket/aws-k8s-{kubernetes_version}{suffix}{fips}/{arch}/"
                f"{'latest' if version == 'latest' else version.removeprefix('v')}/image_id",
                _made_for(arch, "nvidia" if suffix else "any"),
            )
            for suffix in ("-nvidia", "")
            for arch in ("x86_64", "arm64")
        )
    return ()


def alias_of(node_class: EC2NodeClass) -> tuple[str, str] | None:
    """Return (family, version) of the class's AMI alias; None where it selects AMIs otherwise."""
    for term in node_class.spec.ami_selector_terms:
        if term.alias:
            name, _, version = term.alias.partition("@")
            return name.lower(), version
    return None


def choose(images: Sequence[AMI], type_labels: Mapping[str, str]) -> str | None:
    """Return the id of the first image that admits a type with *type_labels*; None if none does."""
    for image in images:
        if Requirements.of(image.requirements).admits(type_labels):
            return image.id
    return None


_AL2023_VARIANTS = (
    ("x86_64", "nvidia"),
    ("arm64", "nvidia"),
    ("x86_64", "neuron"),
    ("x86_64", "standard"),
    ("arm64", "standard"),
)


def _al2023(arch: str, variant: str, kubernetes_version: str, version: str) -> str:
    head = f"/aws/service/eks/optimized-ami/{kubernetes_version}/amazon-linux-2023/{arch}/{variant}"
    if version == "latest":
        return f"{head}/recommended/image_id"
    name = f"amazon-eks-node-al2023-{arch}-{variant}-{kubernetes_version}-{version}"
    return f"{head}/{name}/image_id"


def _made_for(arch: str, variant: str) -> tuple[Entry, ...]:
    entries: list[Entry] = [
        {
            "key": labels.ARCH,
            "operator": "In",
            "values": ["amd64" if arch == "x86_64" else "arm64"],
        }
    ]
    wanted: Iterable[tuple[str, str]] = {
        "nvidia": ((GPU_COUNT, "Exists"),),
        "neuron": ((ACCELERATOR_COUNT, "Exists"),),
        "standard": ((GPU_COUNT, "DoesNotExist"), (ACCELERATOR_COUNT, "DoesNotExist")),
        "any": ((GPU_COUNT, "DoesNotExist"),),
    }[variant]
    entries += [{"key": key, "operator": operator} for key, operator in wanted]
    return tuple(entries)
