"""The public door of voluntary disruption: one pass over the cluster, four methods, one Decision.

The methods run in Karpenter's order with expiry first: expiration, emptiness, drift, consolidation
(F133); each sees the cluster as the commands before it leave it, so that all commands of a pass can
be carried out together. Every node of ours that no command names is listed with the one code that
says most. Matches statements 104 to 120 where the specification does not say that outrider does
better. Refuses to act.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime
from itertools import count

from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption import consolidation, drift, emptiness, expiration
from outrider.core.disruption.result import Blocked, Code, Command, Decision, Proposal
from outrider.core.disruption.scene import Policy, Scene
from outrider.core.scheduling.result import Launch

METHODS: tuple[tuple[Callable[[Scene], Proposal], bool], ...] = (
    (expiration.propose, True),
    (emptiness.propose, False),
    (drift.propose, True),
    (consolidation.propose, True),
)
"""Each method, and whether it goes on with the scene itself after each command."""


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
    for propose, accepts in METHODS:
        proposal = propose(scene)
        for item in proposal.blocked:
            blocked.setdefault(item.node, item)
        for command in proposal.commands:
            if not accepts:
                scene.accept(command)
            commands.append(command)
    gone = {name for command in commands for name in command.nodes}
    for candidate in scene.candidates:
        if candidate.name not in blocked:
            message = "nothing cheaper was found in time"
            blocked[candidate.name] = Blocked(candidate.name, Code.NOT_CHEAPER, message)
    after = before - sum(command.savings_per_hour for command in commands)
    return Decision(
        commands=_named(commands, {node.name for node in state.nodes}),
        blocked=tuple(blocked[name] for name in sorted(blocked) if name not in gone),
        price_per_hour_before=before,
        price_per_hour_after=after,
    )


def _price(scene: Scene, state: ClusterState) -> float:
    """Return what our nodes of *state* cost an hour."""
    ours = {pool.name for pool in state.nodepools if pool.ours}
    return scene.prices.total(node for node in state.nodes if node.node_pool in ours)


def _named(commands: Iterable[Command], taken: Collection[str]) -> tuple[Command, ...]:
    """Return *commands* with launch names that are unique, and not those of nodes (*taken*)."""
    used = set(taken)

    def named(launch: Launch) -> Launch:
        numbers = (f"{launch.node_pool}-{number}" for number in count(1))
        name = next(name for name in numbers if name not in used)
        used.add(name)
        return replace(launch, name=name)

    return tuple(
        replace(command, launches=tuple(named(launch) for launch in command.launches))
        for command in commands
    )
