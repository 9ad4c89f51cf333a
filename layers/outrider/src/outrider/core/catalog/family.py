"""AMI families: which dialect a node class's image speaks, and what follows from it.

The family is the class's `amiFamily`, else the one its alias names (`al2023@latest`), else Custom:
the rule of Karpenter (F38, F39). Windows and AL2 are known and refused: a node class that asks for
one is not ready, and its status says so. Refuses to know AMI ids and user data.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.apis.nodeclass import EC2NodeClass


class Family(StrEnum):
    """The dialects that are spoken here."""

    AL2023 = "AL2023"
    BOTTLEROCKET = "Bottlerocket"
    CUSTOM = "Custom"


_KNOWN = {family.value: family for family in Family}

# Where containers, images and logs live unless the class says otherwise: (device, GiB).
EPHEMERAL_DEVICE = {
    Family.AL2023: "/dev/xvda",
    Family.BOTTLEROCKET: "/dev/xvdb",
    Family.CUSTOM: "",
}
DEFAULT_VOLUME_GIB = 20
BOTTLEROCKET_ROOT_GIB = 4


def alias_of(node_class: EC2NodeClass) -> tuple[str, str] | None:
    """Return (family, version) of the class's AMI alias; None where it selects AMIs otherwise."""
    for term in node_class.spec.ami_selector_terms:
        if term.alias:
            name, _, version = term.alias.partition("@")
            return name.lower(), version or "latest"
    return None


def family_of(node_class: EC2NodeClass | None) -> Family | None:
    """Return the class's family; AL2023 for no class, None for one that is not spoken here."""
    if node_class is None:
        return Family.AL2023
    return _KNOWN.get(node_class.spec.family)
