"""The sweep: what lost events would have told, and what functions that died left undone.

EC2's events are best effort; a lost one is normal. Every few minutes the sweep asks EC2 itself:
impaired instances and scheduled maintenance become the signals that nobody sent, capacity blocks
near their end too, and sick nodes are repaired, unless too many are sick at once. Then it takes up
what was begun: recommendations that had to wait for their budget, reactions that were never
planned, drains that never started or failed too often, nodes that carry our taint and are nobody's.
And it sees to it that the ledger knows the instance of every node, or signals for it would count as
another cluster's.

Called from the lifecycle tick; limits itself to once in four minutes. Refuses to decide: it turns
facts into signals and hands them to `flows.interrupt`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from outrider.apis import duration, labels
from outrider.apis.placement import NO_SCHEDULE
from outrider.apis.signals import (
    SPOT_NOTICE,
    BlockDetail,
    BlockExpiry,
    ImpairedDetail,
    InstanceImpaired,
    Rebalance,
    Signal,
    SpotInterruption,
)
from outrider.core.clusterstate import ClusterState
from outrider.core.interruption import Rebalancing, rebalancing
from outrider.core.records import Reaction
from outrider.core.repair import diagnose
from outrider.core.stateversion import VERSION
from outrider.errors import CloudError, Gone
from outrider.flows import decisions, interrupt, mode
from outrider.flows.ports import World

EVERY = timedelta(minutes=4)
UNPLANNED = timedelta(seconds=50)  # longer than the interrupt function can run
IMPAIRED_LONG = timedelta(minutes=2)
BLOCK_LEAD = timedelta(minutes=40)
SOURCE = "outrider.sweep"
TAINTED_FOR = timedelta(minutes=10)
FORGOTTEN_SOON = timedelta(days=30)


def sweep(world: World) -> bool:
    """Look for what no event told; return whether this call was the one of its four minutes."""
    now = world.clock.now()
    slot = int(now.timestamp() // EVERY.total_seconds())
    if not world.ledger.once(f"sweep/{slot}", now + 2 * EVERY):
        return False
    if not mode.acting(world).launches:
        return False
    state = world.cluster.state()
    rows = {row.instance_id: row for row in world.ledger.reactions()}
    signals = [
        *_impaired(world, rows, now),
        *_blocks(world, state, rows, now),
        *_sick(world, state, rows, now),
        *_unplanned(rows.values(), now),
        *_deferred(world, state, rows, now),
    ]
    try:
        _remember(world, state, now)
        if signals:
            interrupt.handle(signals, world)
        _restart_drains(world, state, rows.values(), now)
        _end_rows(world, rows)
        _untaint(world, state, rows, now)
    finally:
        decisions.flush(world)
    return True


def _impaired(
    world: World, rows: Mapping[str, Reaction], now: datetime
) -> Iterator[InstanceImpaired]:
    """Yield what DescribeInstanceStatus says of instances that nothing happens to yet."""
    try:
        statuses = world.cloud.instance_status()
    except CloudError as error:
        world.telemetry.log("statuses not read", problem=str(error))
        return
    for status in statuses:
        instance_id = str(status.get("InstanceId", ""))
        if instance_id in rows:
            continue
        since = _impaired_since(status)
        if since is not None and now - since >= IMPAIRED_LONG:
            yield _signal(instance_id, "its status check is impaired", now, forced=True)
            continue
        coming = [event for event in status.get("Events", ()) if _still_to_come(event)]
        if coming:
            first = min(coming, key=lambda event: str(event.get("NotBefore", "")))
            yield _signal(
                instance_id,
                f"{first.get('Code')}: {first.get('Description', '')}",
                now,
                not_before=first.get("NotBefore"),
            )


def _impaired_since(status: Mapping[str, Any]) -> datetime | None:
    since = [
        detail["ImpairedSince"]
        for check in ("InstanceStatus", "SystemStatus")
        if status.get(check, {}).get("Status") == "impaired"
        for detail in status[check].get("Details", ())
        if detail.get("ImpairedSince")
    ]
    return min(since, default=None)


def _still_to_come(event: Mapping[str, Any]) -> bool:
    """Return whether a scheduled event is ahead: EC2 marks past ones in the description."""
    return not str(event.get("Description", "")).startswith(("[Completed]", "[Canceled]"))


def _blocks(
    world: World, state: ClusterState, rows: Mapping[str, Reaction], now: datetime
) -> Iterator[BlockExpiry]:
    """Yield the capacity blocks that end soon and still have nodes of ours."""
    used = {
        node.labels[labels.CAPACITY_RESERVATION_ID]
        for node in state.nodes
        if labels.CAPACITY_RESERVATION_ID in node.labels and node.instance_id not in rows
    }
    if not used:
        return
    ends: dict[str, datetime] = {}
    for kind in world.ledger.catalog().instance_types:
        for offering in kind.offerings:
            if offering.reservation_id in used and offering.reservation_ends is not None:
                ends[offering.reservation_id] = offering.reservation_ends
    for reservation, end in sorted(ends.items()):
        if end - now <= BLOCK_LEAD:
            yield BlockExpiry(
                id=f"{SOURCE}/{reservation}",
                source=SOURCE,
                detail_type="Capacity Block Expiration Warning",
                time=now,
                detail=BlockDetail(capacity_reservation_id=reservation, end_date=end),
            )


def _sick(
    world: World, state: ClusterState, rows: Mapping[str, Reaction], now: datetime
) -> Iterator[InstanceImpaired]:
    """Yield the nodes that are unhealthy for good; count the pools where too many are."""
    diagnosis = diagnose(state, now)
    for pool in diagnosis.held_back:
        world.telemetry.count("RepairHeldBack")
        world.telemetry.log("repair held back: too many nodes are unhealthy", node_pool=pool)
    for sick in diagnosis.sick:
        if sick.instance_id and sick.instance_id not in rows:
            yield _signal(sick.instance_id, sick.reason, now, forced=True)


def _unplanned(rows: Iterable[Reaction], now: datetime) -> Iterator[Signal]:
    """Yield the signals of reactions that a function began and did not live to plan."""
    for row in rows:
        if row.planned or row.cancelled or row.at is None or now - row.at < UNPLANNED:
            continue
        if row.reason == "Rebalance":
            yield _recommendation(row.instance_id, now)
        elif row.reason == "SpotInterruption" and row.deadline and row.deadline > now:
            yield SpotInterruption(
                id=f"{SOURCE}/{row.instance_id}",
                source=SOURCE,
                detail_type="EC2 Spot Instance Interruption Warning",
                time=row.deadline - SPOT_NOTICE,
                detail={"instance-id": row.instance_id},
            )
        else:  # its own deadline stands, however far it is: only one that is over is forced
            over = row.deadline is not None and row.deadline <= now
            what = f"{row.reason}, taken up again"
            yield _signal(row.instance_id, what, now, forced=over, not_before=row.deadline)


def _deferred(
    world: World, state: ClusterState, rows: Mapping[str, Reaction], now: datetime
) -> Iterator[Rebalance]:
    """Yield the recommendations that wait, the oldest first; forget those that are settled."""
    waiting = world.ledger.deferred()
    nodes = {node.instance_id: node for node in state.nodes if node.instance_id}
    for instance_id in sorted(waiting, key=lambda one: (waiting[one], one)):
        node = nodes.get(instance_id)
        wish = rebalancing(state.nodepool(node.node_pool)) if node else Rebalancing.IGNORE
        if wish is Rebalancing.IGNORE or instance_id in rows:
            world.ledger.undefer(instance_id)
        else:
            yield _recommendation(instance_id, now)


def _recommendation(instance_id: str, now: datetime) -> Rebalance:
    return Rebalance(
        id=f"{SOURCE}/{instance_id}",
        source=SOURCE,
        detail_type="EC2 Instance Rebalance Recommendation",
        time=now,
        detail={"instance-id": instance_id},
    )


def _remember(world: World, state: ClusterState, now: datetime) -> None:
    """Write down the instances of NodeClaims that the ledger does not know, or soon forgets."""
    claims = {
        claim.instance_id: claim
        for claim in state.nodeclaims
        if claim.status.provider_id and claim.metadata.deletion_timestamp is None
    }
    known = world.ledger.ours(sorted(claims))
    soon = (now + FORGOTTEN_SOON).timestamp()
    missing = [
        instance_id
        for instance_id in claims
        if instance_id not in known or known[instance_id].get("expires", math.inf) < soon
    ]
    if not missing:
        return
    for instance in world.cloud.instances(sorted(missing)):
        claim = claims[instance.id]
        decision = claim.metadata.annotations.get(labels.DECISION, "")
        world.ledger.record_instance(instance, claim.name, decision)


def _restart_drains(
    world: World, state: ClusterState, rows: Iterable[Reaction], now: datetime
) -> None:
    """Start the drains of rows that have no execution: killed before it, or failed for good."""
    claims = {claim.instance_id: claim for claim in state.nodeclaims if claim.status.provider_id}
    for row in rows:
        waits = row.planned and not (row.execution or row.cancelled or row.ended)
        claim = claims.get(row.instance_id)
        there = claim is not None or state.node(row.node) is not None
        if not (waits and there) or row.at is None or now - row.at < UNPLANNED:
            continue
        execution = world.workflows.start(
            "drain",
            f"{row.decision}-{row.instance_id}-sweep-{int(now.timestamp())}",
            {
                "version": VERSION,
                "cluster": world.settings.cluster,
                "decision": row.decision,
                "node": row.node,
                "claim": claim.name if claim else "",
                "instanceId": row.instance_id,
                "reason": row.reason,
                "deadline": duration.stamp(row.deadline) if row.deadline else None,
                "replacements": list(row.replacements),
                "round": 0,
                "successor": 0,
            },
        )
        world.ledger.update_reaction(replace(row, execution=execution))
        world.telemetry.log("drain taken up again", node=row.node, instance=row.instance_id)


def _end_rows(world: World, rows: Mapping[str, Reaction]) -> None:
    """End the reactions of instances that are gone and whose drain does not say so."""
    old = [row for row in rows.values() if row.at and world.clock.now() - row.at > TAINTED_FOR]
    if not old:
        return
    alive = {instance.id for instance in world.cloud.instances(row.instance_id for row in old)}
    state_of = {node.instance_id for node in world.cluster.state().nodes}
    for row in old:
        if row.instance_id not in alive and row.instance_id not in state_of:
            world.ledger.update_reaction(replace(row, ended=True))


def _untaint(
    world: World, state: ClusterState, rows: Mapping[str, Reaction], now: datetime
) -> None:
    """Give nodes back that carry our taint although nothing drains them and nobody deleted them."""
    for node in state.nodes:
        claim = state.claim_of(node)
        ours = any(taint.key == labels.DISRUPTED_TAINT for taint in node.taints)
        leaving = node.deleted or (claim and claim.metadata.deletion_timestamp)
        if not ours or leaving or node.instance_id in rows or claim is None:
            continue
        key = f"tainted/{node.name}/{node.uid}"
        if world.ledger.once(key, now + TAINTED_FOR):
            continue  # seen for the first time: whoever put it on may be about to record why
        try:
            world.cluster.taint(node.name, labels.DISRUPTED_TAINT, NO_SCHEDULE, present=False)
        except Gone:
            continue
        world.telemetry.log("taint without a drain taken off", node=node.name)


def _signal(
    instance_id: str,
    what: str,
    now: datetime,
    *,
    forced: bool = False,
    not_before: datetime | None = None,
) -> InstanceImpaired:
    return InstanceImpaired(
        id=f"{SOURCE}/{instance_id}/{duration.stamp(now)}",
        source=SOURCE,
        detail_type="InstanceImpaired",
        time=now,
        detail=ImpairedDetail(
            instance_id=instance_id, what=what, forced=forced, not_before=not_before
        ),
    )
