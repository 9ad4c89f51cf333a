"""The catalogue in the ledger: whatever it holds comes back, and another release's is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.catalog import codec, compact
from outrider.core.catalog.describe import type_requirements
from outrider.core.catalog.instancetype import (
    Catalog,
    Ec2Facts,
    Gpu,
    InstanceType,
    NetworkCard,
    Offering,
)
from outrider.core.requirements import Requirements
from outrider.errors import InvalidManifest

FACTS = Ec2Facts(vcpu=4, memory_mib=16384)
AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
names = st.text("abc-1", min_size=1, max_size=4)
amounts = st.integers(0, 3)
offerings = st.builds(
    Offering,
    zone=names,
    capacity_type=st.sampled_from(sorted(codec.CAPACITY_TYPES)),
    price_per_hour=st.floats(0, 100),
    available=st.booleans(),
    zone_id=st.just("") | names,
    reservation_id=st.none() | names,
    reservation_capacity=st.none() | amounts,
    reservation_ends=st.none() | st.just(AT),
    stated=st.booleans(),
)
facts = st.builds(
    Ec2Facts,
    vcpu=st.integers(1, 8),
    memory_mib=st.integers(1, 8),
    network_cards=st.lists(st.builds(NetworkCard, amounts, st.booleans()), max_size=2).map(tuple),
    gpus=st.lists(st.builds(Gpu, names, names, amounts, amounts), max_size=2).map(tuple),
    arch=st.sampled_from(["amd64", "arm64"]),
    nvme_gb=amounts,
    bare_metal=st.booleans(),
    hypervisor=st.sampled_from(["", "nitro"]),
)


def described(ec2: Ec2Facts, *ways: Offering) -> InstanceType:
    """Return a type as EC2 describes it."""
    return InstanceType("g6.xlarge", type_requirements("g6.xlarge", ec2), {}, {}, ways, ec2)


@given(facts, st.lists(offerings, max_size=3))
def test_what_is_kept_comes_back(ec2: Ec2Facts, ways: list[Offering]) -> None:
    """Facts, labels and offerings, defaults or not."""
    kept = Catalog((described(ec2, *ways),), version="v", as_of=AT)
    assert compact.restore(compact.dump(kept)) == kept


def test_what_ec2_does_not_describe_comes_back_too() -> None:
    """Capacity stated outright, and a requirement that is no label."""
    by_hand = codec.read(
        {
            "instanceTypes": [
                {"name": "a", "capacity": {"cpu": "4"}, "offerings": []},
                {
                    "name": "b",
                    "ec2": {"vcpu": 2, "memoryMiB": 8, "networkCards": [], "ipv4PerEni": 1},
                    "requirements": [{"key": "k", "operator": "In", "values": ["1", "2"]}],
                    "offerings": [],
                },
            ]
        }
    )
    assert compact.restore(compact.dump(by_hand)) == by_hand
    free = replace(described(FACTS), requirements=Requirements())
    assert compact.restore(compact.dump(Catalog((free,)))) == Catalog((free,))


def test_another_release_s_is_refused() -> None:
    """What this release did not write is described anew, not guessed at."""
    with pytest.raises(InvalidManifest, match="shape"):
        compact.restore(codec.dump(Catalog((described(FACTS),))))
