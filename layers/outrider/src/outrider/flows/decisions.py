"""Decisions out: what every message on our own bus has, and how its parts are named.

A decision has an id that ties hint, plan, intent, fleet, NodeClaim, node and eviction together. It
is a hash of what the decision is about, so that a repeated invocation finds its own traces again.

Most messages are sent at the end of an invocation and lost with it. Those that others count on
(an eviction, a replacement, the end of a node) are owed first: written into the ledger, sent, and
struck off, so that a function that dies loses none. Each message has an id of its own; two with the
same id are the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from outrider.core.records import Debt
from outrider.errors import OutriderError
from outrider.flows.ports import World

VERSION = 1
LISTED = 100  # a message holds 256 KB; whoever wants them all reads the cluster


def decision_id(*parts: object) -> str:
    """Return the id of the decision about *parts*."""
    text = "/".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def publish(world: World, detail_type: str, decision: str, **details: Any) -> None:
    """Queue the message *detail_type* about *decision* for our bus."""
    told = json.dumps(details, sort_keys=True, default=str)
    message = decision_id(detail_type, decision, told)
    world.bus.publish(detail_type, _detail(world, decision, message, details))


def publish_once(
    world: World, about: str, key: str, detail_type: str, decision: str, **details: Any
) -> bool:
    """Queue a message that goes out once, also if this function dies before it does.

    It is owed from here on, under *key*, by whatever is done *about* an instance; False where it
    was sent before.
    """
    debt = owe(world, about, key, detail_type, decision, **details)
    if debt is not None:
        send(world, debt)
    return debt is not None


def owe(
    world: World, about: str, key: str, detail_type: str, decision: str, **details: Any
) -> Debt | None:
    """Write a message down before the deed that it tells of; `send` it afterwards."""
    detail = _detail(world, decision, decision_id(about, key), details)
    debt = Debt(about, key, {"type": detail_type, "detail": detail}, world.clock.now())
    return debt if world.ledger.owe(debt) else None


def send(world: World, debt: Debt) -> None:
    """Queue a message that is owed."""
    world.bus.publish(debt.message["type"], debt.message["detail"], debt=debt)


def flush(world: World) -> None:
    """Send what was published and strike off what was owed; what could not be sent stays owed."""
    paid = world.bus.flush()
    if not paid:
        return
    try:
        world.ledger.pay(paid)
    except OutriderError as error:
        world.telemetry.log("told, but not struck off: it is told again", problem=str(error))


def _detail(
    world: World, decision: str, message: str, details: Mapping[str, Any]
) -> dict[str, Any]:
    fixed = {"version": VERSION, "id": message, "cluster": world.settings.cluster}
    return {**fixed, "decision": decision, **details}
