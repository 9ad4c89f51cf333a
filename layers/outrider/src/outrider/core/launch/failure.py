"""What an error of CreateFleet says of the market: which pools to leave alone for a while.

A code is classed by the adapter (offering, subnet, account, request, permission); what follows from
the class is decided here. A quota that is used up shuts every type of its family, not one offering
at a time as Karpenter does (it then burns one override a call); a subnet without addresses shuts
its zone only when all the class's subnets there are out. Refuses to know for how long: the ledger's
back-off does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from outrider.apis import labels
from outrider.core.launch.fleet import Pool, Subnet
from outrider.core.records import FleetError

Mark = tuple[str, str, str]

ANY = "*"
SUBNET = "subnet:"
SERVICE_LINKED_ROLE = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"

# EC2's vCPU quotas, by the letters a type begins with; everything else is the standard family.
_QUOTAS = ("dl", "f", "gr", "g", "vt", "hpc", "inf", "p", "trn", "u", "x")
_TOGETHER = {"gr": "g", "vt": "g"}


def marks(
    errors: Iterable[FleetError], pools: Sequence[Pool], subnets: Sequence[Subnet]
) -> tuple[Mark, ...]:
    """Return the (type, zone, capacity type) pools that *errors* of a request shut.

    *pools* are those that the request named, *subnets* the node class's.
    """
    result: dict[Mark, None] = {}
    out = {error.subnet_id for error in errors if error.scope == "subnet" and error.subnet_id}
    for error in errors:
        for mark in _marks(error, pools):
            result[mark] = None
    for subnet_id in sorted(out):
        result[SUBNET + subnet_id, ANY, ANY] = None
    for zone in sorted({subnet.zone for subnet in subnets if subnet.id in out}):
        if all(subnet.id in out for subnet in subnets if subnet.zone == zone):
            result[ANY, zone, ANY] = None
    return tuple(result)


def shut_subnets(unavailable: Mapping[Mark, object]) -> frozenset[str]:
    """Return the subnets among the *unavailable* marks."""
    return frozenset(
        kind.removeprefix(SUBNET) for kind, _, _ in unavailable if kind.startswith(SUBNET)
    )


def quota_family(instance_type: str) -> str:
    """Return the name of the vCPU quota that a type counts against."""
    letters = re.split(r"[0-9.-]", instance_type, maxsplit=1)[0]
    if letters not in _QUOTAS:
        return "standard"
    return _TOGETHER.get(letters, letters)


def _marks(error: FleetError, pools: Sequence[Pool]) -> list[Mark]:
    if error.code == SERVICE_LINKED_ROLE:
        return [(ANY, ANY, labels.SPOT)]
    if error.scope == "offering" and error.instance_type and error.zone:
        return [(error.instance_type, error.zone, error.capacity_type)]
    if error.scope == "offering" and not error.instance_type:
        return [(pool.instance_type, pool.zone, error.capacity_type) for pool in pools]
    if error.scope == "account":
        types = sorted({pool.instance_type for pool in pools})
        if error.instance_type:
            quota = quota_family(error.instance_type)
            types = [name for name in types if quota_family(name) == quota]
        return [(name, ANY, error.capacity_type) for name in types]
    return []
