"""A judge of plans, written from the Kubernetes documentation and from nothing of the planner's.

`violations(documents, catalogue, plan)` takes the manifests, the catalogue and the plan's JSON,
and returns what is wrong, in words; an empty list is a plan that kube-scheduler will honour and
that keeps the rules of the command line's contract. A planned node is judged on *every* offering of
its list, because EC2 may pick any of them; where a list leaves a topology domain open, every
combination is tried, up to a bound; pods are then scheduled one by one, in any order that works.
What one pod asks of one node is in `fits`, what pods ask of each other in `crowd`, what may be
bought and what a list must hold in `goods`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice, product

from tests.support import crowd, fits
from tests.support.allocation import unallocated
from tests.support.cluster import Cluster, mark
from tests.support.fits import ZONE, Json, Machine, key_of, number
from tests.support.goods import Option

MOST_COMBINATIONS = 200
CODES = frozenset(
    [
        "InsufficientResources",
        "IncompatibleRequirements",
        "UntoleratedTaint",
        "TopologySpread",
        "PodAffinity",
        "PodAntiAffinity",
        "VolumeZone",
        "VolumeLimits",
        "HostPort",
        "LimitsExceeded",
        "NodePoolNotReady",
        "NoOffering",
        "MinValues",
        "Gang",
        "StaticPool",
        "InvalidVolume",
        "DynamicResources",
    ]
)


def violations(
    documents: Iterable[Json],
    catalogue: Json,
    plan: Json,
    *,
    min_values_policy: str = "Strict",
    preference_policy: str = "Respect",
) -> list[str]:
    """Return everything that is wrong with *plan*."""
    world = World(
        list(documents),
        catalogue,
        strict=min_values_policy == "Strict",
        plain=preference_policy == "Ignore",
    )
    found = [
        *world.missing(plan),
        *world.prices(plan),
        *world.limits(plan),
        *world.reserved(plan),
        *world.whole_gangs(plan),
        *world.reasoned(plan),
        *world.in_turn(plan),
        *unallocated(world.documents, catalogue, plan),
    ]
    for launch in plan["launches"]:
        found += world.launched(launch)
    if found:
        return found
    found += [line for launch in plan["launches"] for line in world.heaviest(launch)]
    machines = world.existing()
    by_name = {machine.name: machine for machine in machines if not machine.leaving}
    for machine in by_name.values():
        new = [
            world.pods[item["pod"]] for item in plan["placements"] if item["node"] == machine.name
        ]
        found += world.unfit(machine, new) if new else []
    unknown = {item["node"] for item in plan["placements"]} - set(by_name)
    found += [f"{name} is no place" for name in sorted(unknown)]
    return found or list(world.neighbours(plan))


class World(Cluster):
    """A cluster with the laws that plans are held to."""

    def __init__(
        self, documents: list[Json], catalogue: Json, *, strict: bool = True, plain: bool = False
    ) -> None:
        super().__init__(documents, catalogue)
        self.strict = strict
        self.plain = plain

    # Whole plans.

    def missing(self, plan: Json) -> Iterator[str]:
        """Yield pods that the plan does not name exactly as often as it should."""
        named = Counter(
            [item["pod"] for item in plan["placements"]]
            + [key for launch in plan["launches"] for key in launch["pods"]]
            + [item["pod"] for item in plan["unschedulable"]]
        )
        pending = self.pending()
        for key in {*self.pods, *named}:
            if named[key] != int(key in pending):
                yield f"{key} is named {named[key]} times"
        summary = plan["summary"]
        placed = len(pending) - len(plan["unschedulable"])
        said = (summary["pods"], summary["placed"], summary["launches"])
        if said != (len(pending), placed, len(plan["launches"])):
            yield f"the summary says {said}"

    def prices(self, plan: Json) -> Iterator[str]:
        """Yield lists that are not cheapest first, prices that are not so, a total that is off."""
        total = 0.0
        for launch in plan["launches"]:
            order = [
                (item["pricePerHour"], item["instanceType"], item["zone"], item["capacityType"])
                for item in launch["offerings"]
            ]
            if not order or order != sorted(order) or launch["pricePerHour"] != order[0][0]:
                yield f"{launch['name']} is not listed cheapest first"
            kinds = list(dict.fromkeys(item["instanceType"] for item in launch["offerings"]))
            if kinds != launch["instanceTypes"]:
                yield f"{launch['name']} lists types {launch['instanceTypes']}, not {kinds}"
            total += launch["pricePerHour"]
        if abs(total - plan["summary"]["pricePerHour"]) > 1e-6:
            yield "the total is not the sum of the launches"
        bound = plan["summary"]["lowerBoundPerHour"]
        if bound is not None and bound > plan["summary"]["pricePerHour"] + 1e-9:
            yield "the bound is above the price"

    def limits(self, plan: Json) -> Iterator[str]:
        """Yield pools whose limits the largest alternatives of their launches would break."""
        for name, pool in self.goods.pools.items():
            mine = [launch for launch in plan["launches"] if launch["nodePool"] == name]
            for resource, left in self.left(pool).items():
                taken = sum(
                    (
                        max(self.goods.capacity(kind, resource) for kind in launch["instanceTypes"])
                        for launch in mine
                    ),
                    Fraction(0),
                )
                if mine and taken > left:
                    yield f"{name} breaks its limit of {resource}"

    def reserved(self, plan: Json) -> Iterator[str]:
        """Yield reservations that more launches list than they have instances."""
        counts = {
            offering["reservationId"]: offering["reservationCapacity"]
            for kind in self.goods.types.values()
            for offering in kind["offerings"]
            if offering.get("reservationId")
        }
        used: Counter[str] = Counter()
        for launch in plan["launches"]:
            held = {item.get("reservationId") for item in launch["offerings"]}
            used.update(name for name in held if name)
            if None in held and len(held) > 1:
                yield f"{launch['name']} lists reservations beside what has to be paid"
        for name, times in used.items():
            if counts[name] is not None and times > counts[name]:
                yield f"reservation {name} is used {times} times, has {counts[name]}"

    def whole_gangs(self, plan: Json) -> Iterator[str]:
        """Yield gangs of which some members have a place, but fewer than must start together."""
        placed = {item["pod"] for item in plan["placements"]}
        placed |= {key for launch in plan["launches"] for key in launch["pods"]}
        pending = self.pending()
        for name, keys in self.gangs().items():
            mine = [key for key in keys if key in placed]
            running = [key for key in keys if key not in pending and self.runs(key)]
            sizes = [mark(self.pods[key], "outrider.dev/gang-size") for key in keys]
            least = int(
                next((size for size in sizes if size), len(running) + len(set(keys) & pending))
            )
            if mine and len(mine) + len(running) < least:
                yield f"gang {name} has {len(mine)} of {least} members"

    def reasoned(self, plan: Json) -> Iterator[str]:
        """Yield pods left out without one good reason for every NodePool, sorted by name."""
        names = sorted(self.goods.pools) or [""]
        for item in plan["unschedulable"]:
            if [reason["nodePool"] for reason in item["reasons"]] != names:
                yield f"{item['pod']} has reasons for {[it['nodePool'] for it in item['reasons']]}"
            for reason in item["reasons"]:
                if reason["code"] not in CODES or not reason["reason"]:
                    yield f"{item['pod']} has the reason {reason}"

    def in_turn(self, plan: Json) -> Iterator[str]:
        """Yield pods left out for the sake of a less important one that asks the same."""
        out = {item["pod"] for item in plan["unschedulable"]}
        for key in out:
            for other in self.pending() - out:
                mine, theirs = self.pods[key], self.pods[other]
                same = _shape(mine) == _shape(theirs) and not crowd.tied(mine)
                if same and _priority(mine) > _priority(theirs):
                    yield f"{other} has a place, the more important {key} has none"

    # One machine.

    def launched(self, launch: Json) -> Iterator[str]:
        """Yield what is wrong with one launch on any of its offerings, and with its list."""
        pods = [self.pods[key] for key in launch["pods"]]
        if not pods:
            yield f"{launch['name']} is for nobody"
        options = []
        for offering in launch["offerings"]:
            option = self.goods.listed(launch, offering)
            if isinstance(option, str):
                yield option
                continue
            options.append(option)
            for machine in self.goods.machines(launch, option):
                yield from self.unfit(machine, pods)
        if options:
            yield from self.goods.variety(launch, options, strict=self.strict)
            yield from self._summed(launch, pods, options)
            yield from self._complete(launch, pods, options)

    def _summed(
        self, launch: Json, pods: Sequence[Json], options: Sequence[Option]
    ) -> Iterator[str]:
        """Yield a sum of requests that is not the pods' plus the least overhead (rule 11)."""
        if any(self.goods.is_open(key) for item in self.goods.daemons for key in _chosen(item)):
            return  # room is kept for it, whether the label will be so or not
        asked: dict[str, Fraction] = {}
        for pod in pods:
            for name, value in fits.requests(pod["spec"]).items():
                asked[name] = asked.get(name, Fraction(0)) + value
        loads = [
            self.goods.overhead(machine)
            for option in options
            for machine in self.goods.machines(launch, option)
        ]
        for name in {name for load in loads for name in load}:
            least = min(load.get(name, Fraction(0)) for load in loads)
            asked[name] = asked.get(name, Fraction(0)) + least
        said = {name: number(value) for name, value in launch["requests"].items()}
        if said != {name: value for name, value in asked.items() if value}:
            yield f"{launch['name']} says {launch['requests']}, its pods ask {asked}"

    def _complete(
        self, launch: Json, pods: Sequence[Json], options: Sequence[Option]
    ) -> Iterator[str]:
        """Yield alternatives that are left off the list of pods that look at nobody (rule 3)."""
        pool = self.goods.pools[launch["nodePool"]]
        free = not any(self.looked_at(pod) or self._wishes(pod) for pod in pods) and not (
            pool["spec"].get("limits")
        )
        paid = all(option.offering["capacityType"] != "reserved" for option in options)
        if not free or not paid or any(mark(pod, "outrider.dev/gang") for pod in pods):
            return
        if any(self.goods.is_open(key) for pod in pods for key in _either(pod)):
            return  # the claim has to settle on one of the terms
        known = {option.identity for option in options}
        suiting = [
            option
            for option in self.goods.options(pool)
            if option.offering["capacityType"] != "reserved"
            and all(
                not list(self.unfit(machine, pods))
                for machine in self.goods.machines(launch, option)
            )
        ]
        wanted = {option.identity for option in self.goods.kept(suiting, pods, pool)}
        for identity in sorted(wanted - known):
            yield f"{launch['name']} leaves {identity} off its list"
        for identity in sorted(known - wanted):
            yield f"{launch['name']} should leave {identity} off its list"

    def looked_at(self, pod: Json) -> bool:
        """Return whether *pod* looks at others, or others at it."""
        if crowd.tied(pod) or pod["spec"].get("topologySpreadConstraints"):
            return True
        if pod["spec"].get("resourceClaims"):  # `allocation` judges which types serve them
            return True
        affinity = pod["spec"].get("affinity") or {}
        if {"podAffinity", "podAntiAffinity"} & affinity.keys():
            return True
        return any(
            crowd.tied(other)
            or other["spec"].get("topologySpreadConstraints")
            or {"podAffinity", "podAntiAffinity"} & (other["spec"].get("affinity") or {}).keys()
            for other in self.pods.values()
        ) or bool(self.storage.unbound(pod) & self._shared())

    def _wishes(self, pod: Json) -> bool:
        """Return whether a preference may narrow where *pod* goes."""
        return not self.plain and "preferred" in str(pod["spec"].get("affinity"))

    def _shared(self) -> set[str]:
        users = Counter(name for pod in self.pods.values() for name in self.storage.unbound(pod))
        return {name for name, count in users.items() if count > 1}

    def heaviest(self, launch: Json) -> Iterator[str]:
        """Yield a launch that none of its pods had to open in so light a NodePool (rule 2)."""
        pool = self.goods.pools[launch["nodePool"]]
        weight = pool["spec"].get("weight") or 0
        heavier = [
            item for item in self.goods.usable() if (item["spec"].get("weight") or 0) > weight
        ]
        for pod in (self.pods[key] for key in launch["pods"]):
            if self._wishes(pod) or self.looked_at(pod) or mark(pod, "outrider.dev/gang"):
                return
            if not any(self.opens(item, pod) for item in heavier):
                return
        yield f"{launch['name']} belongs into a heavier NodePool"

    def opens(self, pool: Json, pod: Json) -> bool:
        """Return whether *pod* alone could open a node in *pool* beside the plan's launches."""
        if (pool["spec"].get("limits") or {}) or self.goods.varied(pool):
            return False  # whether the limits were used up at that moment, the plan does not say
        taints = pool["spec"]["template"]["spec"].get("taints", [])
        soft = [taint for taint in taints if taint["effect"] == "PreferNoSchedule"]
        if soft or self.goods.exotic_only(pool, self.alone(pool, pod)):
            return False
        return bool(self.alone(pool, pod))

    def alone(self, pool: Json, pod: Json) -> list[Option]:
        """Return the options of *pool*, paid for by the hour, that hold *pod* alone."""
        found = []
        for option in self.goods.options(pool):
            machine = self.goods.machine(pool, option)
            if option.offering["capacityType"] != "reserved" and not list(
                self.unfit(machine, [pod])
            ):
                found.append(option)
        return found

    # Neighbours.

    def neighbours(self, plan: Json) -> Iterator[str]:
        """Yield pods that no order of scheduling could place, for some pick of EC2's."""
        keys = self._keys()
        picks = [self._distinct(launch, keys) for launch in plan["launches"]]
        for pick in islice(product(*picks), MOST_COMBINATIONS):
            machines = self.existing() + list(pick)
            homes = {machine.name: machine for machine in machines}
            waiting = [
                (self.pods[item["pod"]], homes[item["node"]]) for item in plan["placements"]
            ] + [
                (self.pods[key], homes[launch["name"]])
                for launch in plan["launches"]
                for key in launch["pods"]
            ]
            problem = self.together(waiting, machines)
            if problem:
                yield problem
                return

    def together(self, waiting: Sequence[crowd.Home], machines: Sequence[Machine]) -> str:
        """Return why pods cannot all be scheduled where *waiting* puts them, "" if they can."""
        stuck = crowd.stuck(self.crowd, waiting, machines)
        if stuck:
            return f"{stuck} cannot be scheduled where the plan puts it"
        where: dict[str, set[str | None]] = {}
        for pod, machine in waiting:
            for name in self.storage.unbound(pod):
                where.setdefault(name, set()).add(machine.labels.get(ZONE))
        torn = [name for name, zones in where.items() if len(zones) > 1]
        if torn:
            return f"{torn[0]} is wanted in two zones"
        return self._scattered(waiting, machines)

    def _scattered(self, waiting: Sequence[crowd.Home], machines: Sequence[Machine]) -> str:
        """Return a gang that should share a zone and does not, or ""."""
        homes = {key_of(pod): machine for pod, machine in waiting}
        homes |= {
            key_of(pod): machine
            for machine in machines
            for pod in machine.pods
            if self.runs(key_of(pod))
        }
        for name, keys in self.gangs().items():
            if any(mark(self.pods[key], "outrider.dev/gang-zone") == "same" for key in keys):
                zones = {homes[key].labels.get(ZONE) for key in keys if key in homes}
                placed = any(key_of(pod) in keys for pod, _ in waiting)
                if placed and len(zones) > 1:
                    return f"gang {name} is in {sorted(map(str, zones))}"
        return ""

    def _keys(self) -> list[str]:
        keys = {ZONE}
        for pod in self.pods.values():
            keys.update(line["topologyKey"] for line in crowd.hard_spreads(pod))
            keys.update(
                term["topologyKey"]
                for kind in ("podAffinity", "podAntiAffinity")
                for term in crowd.terms_of(pod, kind)
            )
        return sorted(keys)

    def _distinct(self, launch: Json, keys: Sequence[str]) -> list[Machine]:
        """Return the launch's machines that differ in a topology key, or for a spread's nodes."""
        watched = [(pod, line) for pod in self.pods.values() for line in crowd.hard_spreads(pod)]
        found: dict[object, Machine] = {}
        for offering in launch["offerings"]:
            option = self.goods.listed(launch, offering)
            assert not isinstance(option, str)
            for machine in self.goods.machines(launch, option):
                identity = (
                    tuple(machine.labels.get(key) for key in keys),
                    tuple(crowd.eligible(pod, line, machine) for pod, line in watched),
                )
                found.setdefault(identity, machine)
        return list(found.values())


def _chosen(daemon: Json) -> Iterable[str]:
    """Return the labels that a DaemonSet selects nodes by."""
    found: Json = daemon["spec"]["template"]["spec"].get("nodeSelector") or {}
    return found.keys()


def _either(pod: Json) -> set[str]:
    """Return the labels that one of several required terms of *pod* names."""
    nodes = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = nodes.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get(
        "nodeSelectorTerms", []
    )
    lines = [line for term in terms for line in term.get("matchExpressions", ())]
    return {line["key"] for line in lines} if len(terms) > 1 else set()


def _priority(pod: Json) -> int:
    return int(pod["spec"].get("priority") or 0)


def _shape(pod: Json) -> Json:
    spec = {key: value for key, value in pod["spec"].items() if key != "priority"}
    return {
        "spec": spec,
        "labels": pod["metadata"].get("labels"),
        "in": pod["metadata"]["namespace"],
    }
