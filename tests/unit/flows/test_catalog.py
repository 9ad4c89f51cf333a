"""Node classes resolved and the catalogue kept, on the tick and by whoever needs them first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from outrider.apis import labels
from outrider.apis.nodeclass import EC2NodeClassStatus
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.instancetype import Catalog
from outrider.core.launch.fleet import Subnet
from outrider.core.launch.readiness import Found
from outrider.errors import Denied, NotFound, Unreachable
from outrider.flows import catalog
from tests.support.launches import ZONES, nodeclass
from tests.support.market import MarketWorld, pool, waiting

FOUND = Found(
    subnets=tuple(Subnet(f"subnet-{zone[-1]}", zone, "", 100) for zone in ZONES),
    security_groups=(("sg-1", "nodes"),),
    amis=({"id": "ami-1", "requirements": []},),
    instance_profile="p",
    role_arn="arn:aws:iam::123456789012:role/node",
)


@pytest.fixture
def made() -> MarketWorld:
    """Return a world with a node class that nobody has looked at, and no catalogue."""
    world = MarketWorld()
    unseen = replace(nodeclass(), status=EC2NodeClassStatus())
    world.furnish(Catalog(()), unseen, pool(), waiting("p0"))
    asked: list[Any] = []

    def facts(zones: list[str], reservations: Any, now: Any) -> Catalog:
        asked.append((zones, list(reservations)))
        return replace(bundled(), version="live", as_of=now)

    cloud: Any = world.cloud
    cloud.asked = asked
    cloud.catalog_facts = facts
    cloud.resolve = lambda _class: FOUND
    cloud.reservations = lambda _class: ()
    ledger: Any = world.ledger
    ledger.put_catalog = lambda kept: setattr(ledger, "stored", kept)
    return world


def test_the_tick_renews_everything(made: MarketWorld) -> None:
    """Classes get their status, and the catalogue has the zones that they reach."""
    answer = catalog.refresh({}, made.world)
    assert answer == {"nodeClasses": 1, "instanceTypes": len(bundled().instance_types)}
    assert made.cloud.asked == [(sorted(ZONES), [])]  # type: ignore[attr-defined]
    kind, name, status = made.recorder.of("patch_status")[0]
    assert (kind, name) == ("EC2NodeClass", "gpu")
    assert {one["type"]: one["status"] for one in status["conditions"]}["Ready"] == "True"
    assert status["subnets"][0] == {"id": "subnet-a", "zone": "us-east-1a", "zoneID": ""}


def test_who_needs_it_first_looks(made: MarketWorld) -> None:
    """A planner that meets an unseen class resolves it, tells its pools, and finds a catalogue."""
    made.ledger.catalog = _nothing_stored(made)  # type: ignore[method-assign]
    state = catalog.prepare(made.world, made.state)
    found = state.nodeclass("gpu")
    assert found is not None
    assert found.status.is_true("Ready")
    assert made.ledger.stored.version == "live"
    kinds = [args[0] for args in made.recorder.of("patch_status")]
    assert kinds == ["EC2NodeClass", "NodePool"]


def _nothing_stored(made: MarketWorld) -> Any:
    def read() -> Catalog:
        if not made.ledger.stored.version:
            raise NotFound("no catalogue yet")
        return made.ledger.stored

    return read


def test_what_is_known_is_not_asked_again(made: MarketWorld) -> None:
    """A ready class and a catalogue that covers its zones cost no call."""
    made.furnish(replace(bundled(), version="live"), nodeclass())
    before = len(made.recorder.calls)
    catalog.prepare(made.world, made.state)
    assert made.cloud.asked == []  # type: ignore[attr-defined]
    assert len(made.recorder.calls) == before


def test_a_class_that_is_not_ready_is_looked_at_again(made: MarketWorld) -> None:
    """What it lacked may be there by now."""
    missing = EC2NodeClassStatus.model_validate(
        {"conditions": [{"type": "Ready", "status": "False", "message": "no subnet"}]}
    )
    made.furnish(replace(bundled(), version="live"), replace(nodeclass(), status=missing))
    state = catalog.prepare(made.world, made.state)
    found = state.nodeclass("gpu")
    assert found is not None
    assert found.status.is_true("Ready")


def test_new_zones_need_a_new_catalogue(made: MarketWorld) -> None:
    """A class in a zone that the stored catalogue does not reach renews it."""
    known = replace(
        bundled(),
        version="live",
        instance_types=tuple(
            replace(kind, offerings=tuple(o for o in kind.offerings if o.zone == ZONES[0]))
            for kind in bundled().instance_types[:5]
        ),
    )
    made.ledger.stored = known
    catalog.prepare(made.world, made.state)
    assert len(made.cloud.asked) == 1  # type: ignore[attr-defined]


def test_refusals_do_not_stop_it(made: MarketWorld) -> None:
    """Reservations that may not be listed and a status that cannot be written stop nothing."""
    cloud: Any = made.cloud

    def refused(_class: Any) -> Any:
        raise Denied("no", "UnauthorizedOperation")

    cloud.reservations = refused
    made.recorder.fail("patch_status", Unreachable("no answer"))
    assert catalog.refresh({}, made.world)["instanceTypes"]


def test_seeds_are_looked_for_when_images_change(made: MarketWorld) -> None:
    """The seed machine is started once for a set of images, and not where no class wants it."""
    running = replace(waiting("p1"), node_name="n1", phase="Running")
    made.cluster.put(running)
    made.seed_machine_arn = "arn:seed"
    catalog.refresh({}, made.world)
    catalog.refresh({}, made.world)
    assert len(made.workflows.started) == 1
    off = replace(
        nodeclass(),
        metadata=replace(nodeclass().metadata, annotations={labels.SEED: "off"}),
    )
    made.cluster.put(off, replace(running, images=("other:1",)))
    catalog.refresh({}, made.world)
    assert len(made.workflows.started) == 1
