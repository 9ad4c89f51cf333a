"""The public doors of voluntary disruption: a pass over the cluster, and a second look at it.

The methods run in Karpenter's order with expiry first: expiration, emptiness, drift, consolidation
(F133); each sees the cluster as the commands before it leave it, so that all commands of a pass can
be carried out together. Every node of ours that no command names is listed with the one code that
says most. Matches statements 104 to 120 where the specification does not say that outrider does
better. Refuses to act.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption import consolidation, drift, emptiness, expiration
from outrider.core.disruption.result import Blocked, Code, Command, Decision, Proposal, Reason
from outrider.core.disruption.scene import Policy, Scene

METHODS: Mapping[Reason, Callable[[Scene], Proposal]] = {
    Reason.EXPIRED: expiration.propose,
    Reason.EMPTY: emptiness.propose,
    Reason.DRIFTED: drift.propose,
    Reason.UNDERUTILIZED: consolidation.propose,
}


def decide(
    state: ClusterState,
    catalog: Catalog,
    policy: Policy,
    now: datetime,
    expired: Callable[[], bool] = lambda: False,
) -> Decision:
    """Return what one pass over *state* at *now* does, and why all other nodes stay."""
    scene, refused = Scene.open(state, catalog, policy, now, expired)
    before = _price(scene, state)
    blocked: dict[str, Blocked] = {item.node: item for item in refused}
    commands: list[Command] = []
    for propose in METHODS.values():
        proposal = propose(scene)
        for item in proposal.blocked:
            blocked.setdefault(item.node, item)
        commands.extend(proposal.commands)
    gone = {name for command in commands for name in command.nodes}
    blocked = {**scene.taking, **blocked}
    for candidate in scene.candidates:
        if candidate.name not in blocked:
            message = "nothing cheaper was found in time"
            blocked[candidate.name] = Blocked(candidate.name, Code.NOT_CHEAPER, message)
    after = before - sum(command.savings_per_hour for command in commands)
    return Decision(
        commands=tuple(commands),
        blocked=tuple(blocked[name] for name in sorted(blocked) if name not in gone),
        price_per_hour_before=before,
        price_per_hour_after=after,
    )


def confirm(
    first: Sequence[Command],
    state: ClusterState,
    catalog: Catalog,
    policy: Policy,
    now: datetime,
    expired: Callable[[], bool] = lambda: False,
) -> tuple[Command, ...]:
    """Return what still holds of the commands *first* on the fresh *state*, as it is now.

    Only nodes that were named before may go, for the reason that was given before. Pods have come
    and gone meanwhile: what a command launches is planned, and has to pay, once more (Karpenter
    drops a command whose second plan differs, F138; on a busy cluster that is every large one).
    """
    named: dict[Reason, set[str]] = {reason: set() for reason in METHODS}
    for command in first:
        named[command.reason].update(command.nodes)
    scene, _ = Scene.open(state, catalog, policy, now, expired)
    commands: list[Command] = []
    for reason in (Reason.EXPIRED, Reason.EMPTY, Reason.DRIFTED):
        with scene.only(named[reason]):
            commands.extend(METHODS[reason](scene).commands)
    with scene.only(named[Reason.UNDERUTILIZED]):
        for command in first:
            if command.reason is Reason.UNDERUTILIZED and not expired():
                launching = bool(command.launches)
                again = consolidation.confirm(scene, command.nodes, launching=launching)
                commands.extend([again] if again else [])
    return tuple(commands)


def _price(scene: Scene, state: ClusterState) -> float:
    """Return what our nodes of *state* cost an hour."""
    ours = {pool.name for pool in state.nodepools if pool.ours}
    return scene.prices.total(node for node in state.nodes if node.node_pool in ours)
