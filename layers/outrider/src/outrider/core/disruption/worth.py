"""Whether a replacement is worth it, and which of its alternatives keep it so.

The worst launch price decides, not the hope (F139): EC2 picks any alternative on a launch's list,
so the list is cut until the dearest ones together stay below what they replace, less the share
that a replacement must save. Spot is only replaced by Spot where what is left of each list has
several types, five by default, or every change of price would move the pods again and a scarce type
would take them (F142 asks for fifteen, of single nodes alone). minValues are never cut into (F5).
Under the policy Balanced the share of the pool's cost that is saved must be worth the share of its
disruption (F145). Refuses to know how the replacement was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from outrider.apis import labels
from outrider.apis.nodepool import BALANCED
from outrider.core.catalog.instancetype import Catalog
from outrider.core.disruption.candidates import Candidate
from outrider.core.disruption.cost import disruption_cost
from outrider.core.disruption.result import Blocked, Code
from outrider.core.disruption.scene import Relocation, Scene
from outrider.core.scheduling.result import Choice, Launch

PENNY = 1e-9  # prices are decimal fractions: below this they are equal
APPROVAL = 0.5


def judge(
    scene: Scene, chosen: Sequence[Candidate], found: Relocation
) -> tuple[Launch, ...] | Blocked:
    """Return the launches of *found*, cut to what pays for the *chosen* nodes; or why none does."""
    name = chosen[0].name
    price = scene.price(chosen)
    hoped = sum(launch.price_per_hour for launch in found.launches)
    if price - hoped <= PENNY:
        message = f"what would replace it costs {hoped:.4f} an hour, it costs {price:.4f}"
        return Blocked(name, Code.NOT_CHEAPER, message)
    launches = _cut(found.launches, price * (1 - scene.policy.minimum_saving), scene.catalog)
    if launches is None:
        share = 100 * scene.policy.minimum_saving
        message = f"its replacement would save less than {share:.0f} % of {price:.4f} an hour"
        return Blocked(name, Code.BELOW_THRESHOLD, message)
    stiff = _too_stiff(chosen, launches, scene.policy.plan.spot_flexibility)
    if stiff:
        return Blocked(name, Code.SPOT_FLEXIBILITY, stiff)
    unbalanced = _unbalanced(scene, chosen, price - hoped)
    if unbalanced:
        return Blocked(name, Code.BELOW_THRESHOLD, unbalanced)
    return launches


def _cut(launches: Sequence[Launch], most: float, catalog: Catalog) -> tuple[Launch, ...] | None:
    """Return *launches* without the choices that would let them cost *most* or more together.

    Each launch may cost its share of *most*, by its cheapest choice, and no more.
    """
    cheapest = sum(launch.price_per_hour for launch in launches)
    if not launches:
        return ()
    if cheapest >= most - PENNY:
        return None
    result = []
    for launch in launches:
        share = launch.price_per_hour * most / cheapest if cheapest > 0 else most / len(launches)
        kept = tuple(choice for choice in launch.choices if choice.price_per_hour < share)
        if not kept or not _varied(launch, kept, catalog):
            return None
        result.append(_narrowed(launch, kept))
    return tuple(result)


def _narrowed(launch: Launch, kept: tuple[Choice, ...]) -> Launch:
    """Return *launch* with the choices *kept* alone, and requirements that say no more."""
    requirements = (
        launch.requirements.only(labels.INSTANCE_TYPE, {item.instance_type for item in kept})
        .only(labels.ZONE, {item.zone for item in kept})
        .only(labels.CAPACITY_TYPE, {item.capacity_type for item in kept})
    )
    return replace(launch, choices=kept, requirements=requirements)


def _varied(launch: Launch, kept: Sequence[Choice], catalog: Catalog) -> bool:
    """Return whether the choices *kept* still offer as many values as minValues ask for."""
    for key, requirement in launch.requirements.items():
        if requirement.min_values and _values(key, kept, catalog) < requirement.min_values:
            return False
    return True


def _values(key: str, kept: Sequence[Choice], catalog: Catalog) -> int:
    """Return how many values of the label *key* there are among the choices *kept*."""
    read = {
        labels.INSTANCE_TYPE: lambda choice: choice.instance_type,
        labels.ZONE: lambda choice: choice.zone,
        labels.CAPACITY_TYPE: lambda choice: choice.capacity_type,
    }.get(key)
    if read is not None:
        return len({read(choice) for choice in kept})
    kinds = {name: catalog.get(name) for name in {choice.instance_type for choice in kept}}
    found = (kind.requirements.get(key) for kind in kinds.values() if kind is not None)
    return len({value.single for value in found if value is not None and value.single})


def _too_stiff(chosen: Sequence[Candidate], launches: Sequence[Launch], flexibility: int) -> str:
    """Return why replacing Spot nodes by Spot would leave too little choice, or ""."""
    if all(item.node.labels.get(labels.CAPACITY_TYPE) != labels.SPOT for item in chosen):
        return ""
    for launch in launches:
        types = {
            choice.instance_type for choice in launch.choices if choice.capacity_type == labels.SPOT
        }
        if types and len(types) < flexibility:
            return f"only {len(types)} cheaper Spot types would do, {flexibility} are needed"
    return ""


def _unbalanced(scene: Scene, chosen: Sequence[Candidate], saving: float) -> str:
    """Return which Balanced NodePool finds the saving too small for its disruption, or ""."""
    pools = {
        candidate.pool.name: candidate.pool
        for candidate in chosen
        if candidate.pool.spec.disruption.consolidation_policy == BALANCED
    }
    for name in sorted(pools):
        cost, whole = scene.pools[name]
        moved = [candidate for candidate in chosen if candidate.pool.name == name]
        disruption = _disruption(moved) / whole if whole > 0 else 0.0
        score = (saving / cost) / disruption if cost > 0 and disruption > 0 else float("inf")
        if score < APPROVAL:
            return f"NodePool {name} is Balanced: a score of {score:.2f} is below {APPROVAL}"
    return ""


def _disruption(candidates: Iterable[Candidate]) -> float:
    return sum(disruption_cost(candidate.pods) for candidate in candidates)
