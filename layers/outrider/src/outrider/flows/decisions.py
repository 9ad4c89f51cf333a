"""Decisions out: what every message on our own bus has, and how its parts are named.

A decision has an id that ties hint, plan, intent, fleet, NodeClaim, node and eviction together. It
is a hash of what the decision is about, so that a repeated invocation finds its own traces again.
"""

from __future__ import annotations

import hashlib
from typing import Any

from outrider.flows.ports import World

VERSION = 1
LISTED = 100  # a message holds 256 KB; whoever wants them all reads the cluster


def decision_id(*parts: object) -> str:
    """Return the id of the decision about *parts*."""
    text = "/".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def publish(world: World, detail_type: str, decision: str, **details: Any) -> None:
    """Queue the message *detail_type* about *decision* for our bus."""
    fixed = {"version": VERSION, "cluster": world.settings.cluster, "decision": decision}
    world.bus.publish(detail_type, {**fixed, **details})
