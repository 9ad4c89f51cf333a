"""What every planner needs before it plans: the catalogue as it stands, the policy, the patience.

Refuses to decide anything: it fetches and hands on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from outrider.apis.pod import Pod
from outrider.core.catalog.instancetype import Catalog
from outrider.core.clusterstate import ClusterState
from outrider.core.protection import Budgets, forbids_disruption, movable
from outrider.core.scheduling.policy import Policy
from outrider.errors import ClusterError
from outrider.flows.ports import World

MOST_NAMED = 10
"""How many malformed objects a pass names; all are counted."""
DEADLINE_SECONDS = 10.0
"""How long a plan may be improved where SolverDeadlineSeconds does not say."""


def catalog_now(world: World, now: datetime) -> Catalog:
    """Return the stored catalogue, the pools that are marked unavailable shut."""
    return world.ledger.catalog().without(world.ledger.unavailable(now))


def policy_of(world: World) -> Policy:
    """Return how to plan, by this stack's settings."""
    settings = world.settings
    return Policy(
        node_cost_per_hour=settings.node_cost_per_hour,
        spot_flexibility=settings.spot_flexibility,
        most_pods_per_node=settings.most_pods_per_node,
    )


def patience(world: World) -> Callable[[], bool]:
    """Return what planning asks to learn whether its time is up."""
    seconds = world.settings.solver_deadline_seconds or DEADLINE_SECONDS
    until = world.clock.now() + timedelta(seconds=seconds)
    return lambda: world.clock.now() >= until


def homeless(
    state: ClusterState, nodes: Iterable[str], *, held_since: datetime | None = None
) -> tuple[Pod, ...]:
    """Return the pods of *nodes* as if they had never been bound: what has to go elsewhere.

    Where nothing forces them (*held_since* is the instant at which that is judged), pods that
    do-not-disrupt or a PodDisruptionBudget holds are left out: nobody knows when they will move.
    """
    budgets = Budgets(state.pdbs)
    return tuple(
        replace(pod, node_name="", nominated_node_name="")
        for name in nodes
        for pod in state.pods_on(name)
        if movable(pod)
        and not (
            held_since is not None and (forbids_disruption(pod, held_since) or budgets.holding(pod))
        )
    )


def report_invalid(world: World, state: ClusterState) -> None:
    """Count and name the objects that were left out because they do not parse.

    Each gets an Event, where its owner looks; an Event that cannot be written stops nothing.
    """
    if not state.invalid:
        return
    world.telemetry.count("InvalidObjects", len(state.invalid))
    for error in state.invalid[:MOST_NAMED]:
        world.telemetry.log("object left out", problem=str(error))
        if error.about:
            problem = f"{error.path} {error.problem}".strip()
            with suppress(ClusterError):
                world.cluster.event(
                    error.about, "Malformed", f"Left out of planning: {problem}", warning=True
                )
