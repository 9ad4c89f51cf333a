"""What outrider may do: the stack's mode, and the refusal beside a live Karpenter.

`observe` plans and tells; `provision` launches and answers involuntary disruption as well; `full`
consolidates too. While somebody else's Karpenter renews its Lease in the same cluster every mode
acts as `observe` and says so: two provisioners would launch everything twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from outrider.flows.ports import World

SAID_AGAIN = timedelta(minutes=10)
BESIDE = (
    "A Karpenter controller is live in this cluster: outrider only observes. "
    "Scale its Deployment to 0 to let outrider act."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What may be done now, and why no more than that."""

    launches: bool
    disrupts: bool
    reason: str = ""


def acting(world: World) -> Standing:
    """Return what outrider may do now; say so where a live Karpenter is in the way."""
    mode = world.settings.mode
    if mode == "observe":
        return Standing(launches=False, disrupts=False, reason="the mode is observe")
    now = world.clock.now()
    if world.cluster.karpenter_is_live(now):
        _say_beside(world)
        return Standing(launches=False, disrupts=False, reason="a Karpenter is live")
    if mode == "provision":
        return Standing(launches=True, disrupts=False, reason="the mode is provision")
    return Standing(launches=True, disrupts=True)


def _say_beside(world: World) -> None:
    world.telemetry.count("BesideKarpenter")
    slot = int(world.clock.now().timestamp() // SAID_AGAIN.total_seconds())
    if world.ledger.once(f"beside-karpenter/{slot}", world.clock.now() + SAID_AGAIN):
        world.telemetry.log(BESIDE)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "name": "kube-system"}
        world.cluster.event(namespace, "BesideKarpenter", BESIDE, warning=True)
