"""Whether what NodePools ask for can be bought and addressed: vCPU quotas, subnets, /28 blocks.

EC2 counts vCPUs by classes of instance families, Spot apart from on-demand, and new accounts begin
at zero for accelerated ones. A NodePool is held up where none of its types fits into any quota.
With prefix delegation every node takes whole /28 blocks; a subnet may have thousands of free
addresses and not one free block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network

from outrider.apis import labels
from outrider.apis.nodepool import NodePool
from outrider.core.catalog.facts import ClusterFacts
from outrider.core.catalog.instancetype import Catalog, InstanceType
from outrider.core.doctor.facts import Facts, SubnetFacts
from outrider.core.doctor.finding import Finding, Severity
from outrider.core.requirements import Requirements

ERROR, WARNING = Severity.ERROR, Severity.WARNING

# Class of families -> (name, on-demand quota, Spot quota); the default class comes last.
QUOTAS: Mapping[str, tuple[str, str, str]] = {
    "g": ("G and VT", "L-DB2E81BA", "L-3819A6DF"),
    "vt": ("G and VT", "L-DB2E81BA", "L-3819A6DF"),
    "p": ("P", "L-417A185B", "L-7212CCBC"),
    "inf": ("Inf", "L-1945791B", "L-B5D1601B"),
    "trn": ("Trn", "L-2C3B7624", "L-5480EFD2"),
    "dl": ("DL", "L-6E869C2A", "L-85EED4F7"),
    "f": ("F", "L-74FC7D96", "L-88CF9481"),
    "x": ("X", "L-7295265B", "L-E3A00192"),
    "": ("Standard", "L-1216C47A", "L-34B43A08"),
}
STANDARD = frozenset("acdhimrtz")
CODES = tuple(sorted({code for _, *codes in QUOTAS.values() for code in codes}))
FEW_ADDRESSES = 16
BLOCK = 16  # addresses in a /28
_LETTERS = re.compile(r"[a-z]+")


def judge(facts: Facts) -> Iterator[Finding]:
    """Yield the NodePools that cannot be bought for, and the networks that are full."""
    state = facts.state
    if state is not None and facts.catalog is not None and facts.quotas is not None:
        for pool in state.nodepools:
            if pool.ours:
                yield from _quotas(pool, facts.catalog, facts.quotas)
    prefixes = state is not None and ClusterFacts.of(state).prefix_delegation
    for name, subnets in sorted((facts.subnets or {}).items()):
        yield from _subnets(name, subnets, prefixes=prefixes)
    for name, groups in sorted((facts.security_groups or {}).items()):
        if not groups:
            yield Finding(
                ERROR,
                "NoSecurityGroup",
                f"EC2NodeClass {name}",
                "its securityGroupSelectorTerms select no security group",
                "tag the nodes' security group as the terms say, or correct the terms",
            )


# --- quotas ---------------------------------------------------------------------------------------


def types_of(pool: NodePool, catalog: Catalog) -> tuple[InstanceType, ...]:
    """Return the types of *catalog* that *pool* may launch."""
    spec = pool.spec.template.spec
    rules = Requirements.of(spec.requirements)
    return tuple(
        kind
        for kind in catalog.instance_types
        if all(
            kind.requirements[key].intersects(rules[key]) for key in rules if _of_type(key, kind)
        )
    )


def _of_type(key: str, kind: InstanceType) -> bool:
    """Return whether a rule on *key* is about types: their names, or a label that types carry."""
    return key == labels.INSTANCE_TYPE or key in kind.requirements


def _quotas(pool: NodePool, catalog: Catalog, quotas: Mapping[str, float]) -> Iterator[Finding]:
    wanted = Requirements.of(pool.spec.template.spec.requirements)
    bought = [
        kind
        for kind in (labels.SPOT, labels.ON_DEMAND)
        if (labels.CAPACITY_TYPE in wanted and wanted[labels.CAPACITY_TYPE].has(kind))
        or (labels.CAPACITY_TYPE not in wanted and kind == labels.ON_DEMAND)
    ]
    kinds = types_of(pool, catalog)
    short = {kind: _short(kinds, quotas, spot=kind == labels.SPOT) for kind in bought}
    for capacity_type, (name, code, least) in (
        (kind, found) for kind, found in short.items() if found is not None
    ):
        yield Finding(
            ERROR if all(short.values()) else WARNING,
            "VcpuQuota",
            f"NodePool {pool.name}",
            f"its smallest {capacity_type} type needs {least} vCPUs, and the quota of {name}"
            f" instances is {quotas[code]:g}",
            "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code"
            f" {code} --desired-value {max(4 * least, 64)}",
        )


def _short(
    kinds: Iterable[InstanceType], quotas: Mapping[str, float], *, spot: bool
) -> tuple[str, str, int] | None:
    """Return the (class, quota, vCPUs) that come nearest where no type fits its quota."""
    nearest: tuple[str, str, int] | None = None
    for kind in kinds:
        group = _class_of(kind.name)
        vcpus = kind.ec2.vcpu if kind.ec2 else kind.capacity.get("cpu", 0) // 1000
        if group is None or not vcpus:
            return None  # whatever is not counted is not held up
        name, on_demand, market = group
        code = market if spot else on_demand
        if code not in quotas or quotas[code] >= vcpus:
            return None
        if nearest is None or vcpus < nearest[2]:
            nearest = (name, code, vcpus)
    return nearest


def _class_of(name: str) -> tuple[str, str, str] | None:
    found = _LETTERS.match(name)
    letters = found[0] if found else ""
    for length in range(len(letters), 0, -1):
        if letters[:length] in QUOTAS:
            return QUOTAS[letters[:length]]
    return QUOTAS[""] if letters[:1] in STANDARD else None


# --- subnets --------------------------------------------------------------------------------------


def free_blocks(cidr: str, taken: Iterable[str], prefixes: Iterable[str]) -> int:
    """Return how many whole /28 blocks of *cidr* hold no address in *taken*, none of *prefixes*.

    The first block and the last one never count: AWS keeps four addresses and the broadcast.
    """
    network = ip_network(cidr)
    size = network.num_addresses
    if network.version != 4 or size < 2 * BLOCK:
        return 0
    first = int(network.network_address)
    used = {0, size // BLOCK - 1}
    used |= {(int(ip_address(one)) - first) // BLOCK for one in taken}
    for prefix in map(ip_network, prefixes):
        start = (int(prefix.network_address) - first) // BLOCK
        used |= set(range(start, start + max(prefix.num_addresses // BLOCK, 1)))
    return size // BLOCK - sum(0 <= block < size // BLOCK for block in used)


def _subnets(name: str, subnets: tuple[SubnetFacts, ...], *, prefixes: bool) -> Iterator[Finding]:
    about = f"EC2NodeClass {name}"
    if not subnets:
        yield Finding(
            ERROR,
            "NoSubnet",
            about,
            "its subnetSelectorTerms select no subnet",
            "tag the nodes' subnets as the terms say, or correct the terms",
        )
        return
    few = [one for one in subnets if one.free_addresses < FEW_ADDRESSES]
    if few:
        listed = ", ".join(f"{one.id} ({one.free_addresses})" for one in few)
        yield Finding(
            ERROR if len(few) == len(subnets) else WARNING,
            "FewAddresses",
            about,
            f"subnets with hardly any free address: {listed}",
            "add a secondary CIDR with larger subnets and tag these for the class",
        )
    full = [one for one in subnets if not one.free_blocks]
    if prefixes and full:
        listed = ", ".join(f"{one.id} in {one.zone}" for one in full)
        yield Finding(
            ERROR if len(full) == len(subnets) else WARNING,
            "NoFreePrefix",
            about,
            f"prefix delegation is on, and these subnets have no free /28: {listed}",
            "reserve room for prefixes (aws ec2 create-subnet-cidr-reservation --reservation-type"
            " prefix) in new subnets, or set ENABLE_PREFIX_DELEGATION=false on aws-node",
        )
