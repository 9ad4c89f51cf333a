"""EC2 takes Spot instances back: the warning, and two minutes later the end.

Only what the simulator itself announces is carried out; a warning that a client puts on the bus
only warns. `interrupt` and `recommend` are for the demo and for tests; whoever wants a restless
market calls them on the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.local.clock import Clock
from outrider.local.instances import Instances

NOTICE_SECONDS = 120.0


@dataclass(slots=True)
class Reclaim:
    """Interruptions made here."""

    instances: Instances
    clock: Clock
    publish: Callable[[str, str, dict[str, Any], list[str]], None]

    def interrupt(self, instance_id: str, *, notice: float = NOTICE_SECONDS) -> None:
        """Warn that an instance will be taken, and take it after *notice* seconds."""
        instance = self.instances.find(instance_id)
        if instance is None or instance.state not in ("pending", "running"):
            raise LookupError(f"no running instance {instance_id}")
        # The zone in the region's place and no account: EC2's own samples have it so.
        self.publish(
            "aws.ec2",
            "EC2 Spot Instance Interruption Warning",
            {"instance-id": instance_id, "instance-action": "terminate"},
            [f"arn:aws:ec2:{instance.availability_zone}:instance/{instance_id}"],
        )
        self.clock.call_later(notice, lambda: self.instances.end(instance, why="spot-interruption"))

    def recommend(self, instance_id: str) -> None:
        """Say that an instance is at an elevated risk; nothing follows by itself."""
        instance = self.instances.find(instance_id)
        zone = instance.availability_zone if instance else "us-east-1a"
        self.publish(
            "aws.ec2",
            "EC2 Instance Rebalance Recommendation",
            {"instance-id": instance_id},
            [f"arn:aws:ec2:{zone}:instance/{instance_id}"],
        )

    def block_ended(self, _reservation_id: str, instance_ids: Sequence[str]) -> None:
        """Take the instances of a capacity block that ends."""
        for instance_id in instance_ids:
            if (instance := self.instances.find(instance_id)) is not None:
                self.instances.end(instance, why="capacity-block")
