"""The public images of EKS: AL2023 and Bottlerocket for the cluster's version, and their SSM names.

moto has neither the parameters nor images that fit them. Both are made here, and only for what AWS
has too: no NVIDIA image for what does not exist, Neuron on x86_64 alone. Image ids are a hash of
the name, so they are the same in every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from outrider.local.aws import Endpoint
from outrider.local.region import ACCOUNT, REGION

KUBERNETES = "1.34"
RELEASE = "v20261105"
BOTTLEROCKET = "1.46.0"
# The EKS image account and Bottlerocket's in us-east-1.
EKS_OWNER = "602401143452"
CREATED = datetime(2026, 11, 5, tzinfo=UTC)


def _rows() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield (image name, architecture, root device, SSM names)."""
    eks = f"/aws/service/eks/optimized-ami/{KUBERNETES}/amazon-linux-2023"
    for architecture in ("x86_64", "arm64"):
        for variant in ("standard", "nvidia", "neuron"):
            if variant == "neuron" and architecture == "arm64":
                continue
            stem = f"amazon-eks-node-al2023-{architecture}-{variant}-{KUBERNETES}"
            place = f"{eks}/{architecture}/{variant}"
            yield (
                f"{stem}-{RELEASE}",
                architecture,
                "/dev/xvda",
                (f"{place}/recommended/image_id", f"{place}/{stem}-{RELEASE}/image_id"),
            )
        for flavour in ("", "-nvidia", "-fips", "-nvidia-fips"):
            place = f"/aws/service/bottlerocket/aws-k8s-{KUBERNETES}{flavour}/{architecture}"
            yield (
                f"bottlerocket-aws-k8s-{KUBERNETES}{flavour}-{architecture}-v{BOTTLEROCKET}",
                architecture,
                "/dev/xvda",
                (f"{place}/latest/image_id", f"{place}/{BOTTLEROCKET}/image_id"),
            )


def image_id(name: str) -> str:
    """Return the id of an image by its name."""
    return f"ami-{hashlib.sha256(name.encode()).hexdigest()[:17]}"


def publish(endpoint: Endpoint) -> dict[str, str]:
    """Put the images and the parameters in place; return the image id of each parameter."""
    from moto.ec2.models import ec2_backends
    from moto.ec2.models.amis import Ami
    from moto.ssm.models import Parameter, ssm_backends

    parameters: dict[str, str] = {}
    with endpoint.lock:
        ec2, ssm = ec2_backends[ACCOUNT][REGION], ssm_backends[ACCOUNT][REGION]
        for name, architecture, root, ssm_names in _rows():
            identity = image_id(name)
            ec2.amis[identity] = Ami(
                ec2,
                identity,
                name=name,
                description=f"{name} (embedded)",
                owner_id=EKS_OWNER,
                owner_alias="amazon",
                public=True,
                virtualization_type="hvm",
                architecture=architecture,
                creation_date=CREATED.replace(tzinfo=None),
                image_location=f"amazon/{name}",
                hypervisor="xen",
                root_device_type="ebs",
                root_device_name=root,
                region_name=REGION,
            )
            for ssm_name in ssm_names:
                parameters[ssm_name] = identity
                ssm._parameters[ssm_name].append(_parameter(Parameter, ssm_name, identity))
    return parameters


def _parameter(kind: Any, name: str, value: str) -> Any:
    return kind(
        account_id=ACCOUNT,
        name=name,
        value=value,
        parameter_type="String",
        description=None,
        allowed_pattern=None,
        keyid=None,
        last_modified_date=CREATED,
        version=1,
        data_type="aws:ec2:image",
    )
