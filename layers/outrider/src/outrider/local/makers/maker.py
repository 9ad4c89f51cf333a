"""What the makers share: the stack that they make for, and the rooms where resources go.

Refuses to know any resource type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outrider.local.alarms import Alarms
from outrider.local.functions import Registry
from outrider.local.httpapi import Gateway
from outrider.local.queues import Pollers
from outrider.local.schedules import Schedules
from outrider.local.template import Made

if TYPE_CHECKING:
    from outrider.local.stack import Stack

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rooms:
    """Where the resources go that moto does not serve."""

    client: Callable[[str], Any]
    url: str
    functions: Registry
    pollers: Pollers
    schedules: Schedules
    gateway: Gateway
    alarms: Alarms


class Maker:
    """What the makers share: the stack and its clients."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.rooms = stack.rooms
        self.client = stack.rooms.client

    def recorded(self, logical_id: str, _properties: Json) -> Made:
        """Keep a resource that only IAM's evaluation would read."""
        return Made(self.stack.physical(logical_id))


def tags(given: Any) -> dict[str, str]:
    """Return tags, as a list or a mapping gives them, as a mapping of words."""
    if isinstance(given, list):
        return {tag["Key"]: word(tag["Value"]) for tag in given}
    return {key: word(value) for key, value in (given or {}).items()}


def word(value: Any) -> str:
    """Return a value as the text that AWS makes of it."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
