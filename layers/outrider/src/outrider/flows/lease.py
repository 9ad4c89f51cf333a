"""One planner at a time: the cluster's planning lease, and who gives way to whom.

provision, interrupt and disrupt plan on what the cluster has and is about to have; two of them at
once would launch twice. An interruption has two minutes, so it raises a flag before it asks for the
lease: provision looks at it between fleet calls, disrupt whenever it waits, and both let go. The
lease runs out by itself behind a function that was killed; a fencing token in the launch intents
keeps a function that only seemed dead from beginning a launch late. One that it had begun before it
may still end: `errands.outpaced` keeps the next holder from launching by a plan that is older.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from outrider.core.records import Lease
from outrider.flows.ports import World

WAITING = "interruption-waiting"
LEAVING = "nodes-leaving"
STANDING = "standing-wishes"  # NodePools of fixed size and headroom: work though no pod waits
LEASE_SECONDS = 45.0
POLL_SECONDS = 0.25
FLAG_SPAN = timedelta(seconds=30)


def taken_at(held: Lease) -> datetime:
    """Return when *held* was taken."""
    return held.until - timedelta(seconds=LEASE_SECONDS)


@contextmanager
def planning(world: World, *, wait_seconds: float) -> Iterator[Lease | None]:
    """Hold the planning lease, after waiting *wait_seconds* for it at most; None where in vain."""
    owner = f"{world.settings.function or 'outrider'}-{secrets.token_hex(4)}"
    asked = world.clock.now()
    lease = world.ledger.acquire(owner, LEASE_SECONDS)
    while lease is None and (world.clock.now() - asked).total_seconds() < wait_seconds:
        world.clock.sleep(POLL_SECONDS)
        lease = world.ledger.acquire(owner, LEASE_SECONDS)
    taken = world.clock.now()
    world.telemetry.count("LeaseWaitSeconds", (taken - asked).total_seconds())
    if lease is None:
        yield None
        return
    try:
        yield lease
    finally:
        world.ledger.release(lease)
        held = (world.clock.now() - taken).total_seconds()
        world.telemetry.count("LeaseHeldSeconds", held)


@contextmanager
def urgent(world: World, *, wait_seconds: float) -> Iterator[Lease | None]:
    """Hold the planning lease before everybody else who waits for it or can let it go."""
    world.ledger.flag(WAITING, world.clock.now() + FLAG_SPAN)
    with planning(world, wait_seconds=wait_seconds) as lease:
        world.ledger.lower(WAITING)
        yield lease
