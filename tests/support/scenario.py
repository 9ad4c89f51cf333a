"""Scenarios: whole clusters drawn at random, every feature beside every other.

`scenario(seed)` gives documents, a catalogue and a policy, the same ones for the same seed.
Catalogues are small and clusters cramped on purpose: constraints should meet. `tests.support.hunt`
draws tens of thousands of them; tests/properties draws a few hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.support.builders import (
    CAPACITY_TYPE,
    HOSTNAME,
    INSTANCE_TYPE,
    NODEPOOL,
    ZONE,
    ZONES,
    Json,
    catalog,
    claim,
    csi_node,
    daemonset,
    expression,
    instance_type,
    node,
    nodeclaim,
    nodepool,
    offering,
    pod,
    preference,
    spread,
    storage_class,
    taint,
    term,
    tolerates,
    volume,
    wish,
)

APPS = ("a", "b", "c")
TIERS = ("gold", "iron")
KEYS = (ZONE, ZONE, HOSTNAME, HOSTNAME, CAPACITY_TYPE, "tier")
SPACES = ("default", "other")


@dataclass(frozen=True)
class Scenario:
    """One case: what is in the cluster, what can be bought, and how to plan."""

    documents: tuple[Json, ...]
    catalog: Json
    policy: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Dice:
    """A random source with the words that scenarios are drawn with."""

    random: Random
    tiny: bool = False

    def one(self, items: Sequence[Any]) -> Any:
        """Return one of *items*."""
        return self.random.choice(items)

    def some(self, items: Sequence[Any], least: int = 1) -> list[Any]:
        """Return a few of *items*, in their order."""
        count = self.random.randint(least, len(items))
        chosen = set(self.random.sample(range(len(items)), count))
        return [item for index, item in enumerate(items) if index in chosen]

    def rarely(self, chance: float) -> bool:
        """Return True with a *chance*."""
        return self.random.random() < chance

    def maybe(self, chance: float, draw: Callable[[], Any], otherwise: Any = None) -> Any:
        """Return what *draw* draws with a *chance*, else *otherwise*."""
        return draw() if self.rarely(chance) else otherwise


def scenario(seed: int, *, tiny: bool = False) -> Scenario:
    """Return the scenario of *seed*; a *tiny* one can be searched exhaustively."""
    dice = _Dice(Random(seed), tiny)
    goods = _catalogue(dice)
    pools = _pools(dice)
    nodes = _nodes(dice, [item["metadata"]["name"] for item in pools])
    waiting = _owners(dice)
    documents = [
        *pools,
        *nodes,
        *waiting,
        *_daemons(dice, nodes),
        *_storage(dice, waiting, nodes),
        *_rest(dice),
    ]
    policy = {
        "preference_policy": dice.maybe(0.25, lambda: "Ignore", "Respect"),
        "min_values_policy": dice.maybe(0.2, lambda: "BestEffort", "Strict"),
    }
    return Scenario(tuple(documents), goods, policy)


# What can be bought.


def _catalogue(dice: _Dice) -> Json:
    found = []
    for place in range(dice.random.randint(1, 3 if dice.tiny else 5)):
        cpu = dice.one([2, 4, 8, 16])
        gpu = dice.maybe(0.3, lambda: dice.random.randint(1, 4))
        price = round(cpu * 0.05 + (gpu or 0) * 0.8 + dice.random.randint(0, 9) * 0.01, 4)
        zones = dice.some(ZONES[:2] if dice.tiny else ZONES)
        sold = [
            offering(zone, "on-demand", price, available=not dice.rarely(0.08)) for zone in zones
        ]
        if dice.rarely(0.5):
            sold += [
                offering(zone, "spot", round(price * dice.one([0.4, 0.7, 1.2]), 4))
                for zone in zones
            ]
        if dice.rarely(0.2):
            count = dice.random.randint(0, 2)
            sold.append(offering(zones[0], "reserved", 0, reservation=f"cr-{place}", count=count))
        slots = dice.maybe(0.2, lambda: {"attachable-volumes-csi-ebs.csi.aws.com": "1"}, {})
        labels = dice.maybe(0.85, lambda: {"size": str(cpu)}, {})  # noqa: B023 (drawn at once)
        entry = instance_type(
            f"t{place}" if not dice.rarely(0.08) else f"t{place}.metal",
            cpu=str(cpu),
            memory=f"{cpu * dice.one([2, 4])}Gi",
            gpu=gpu,
            pods=dice.one(["3", "5", "110"]),
            labels=labels,
            arch=dice.maybe(0.15, lambda: "arm64", "amd64"),
            offerings=sold,
            resources=slots,
        )
        if dice.rarely(0.15):
            entry["requirements"].append(expression("tenancy", "In", "default", "dedicated"))
        if dice.rarely(0.3):
            entry["overhead"] = {"kubeReserved": {"cpu": "100m", "memory": "300Mi"}}
        found.append(entry)
    return catalog(*found)


def _pools(dice: _Dice) -> list[Json]:
    found = []
    for place in range(dice.random.randint(1, 2 if dice.tiny else 3)):
        lines = []
        if not dice.rarely(0.2):
            kinds = dice.one(
                [("spot", "on-demand"), ("on-demand",), ("spot", "on-demand", "reserved")]
            )
            lines.append(expression(CAPACITY_TYPE, "In", *kinds))
        if dice.rarely(0.25):
            lines.append(expression(ZONE, "In", *dice.some(ZONES)))
        lines += dice.maybe(0.15, lambda: [expression("size", dice.one(["Gt", "Gte"]), "3")], [])
        lines += dice.maybe(0.1, lambda: [expression("size", dice.one(["Lt", "Lte"]), "8")], [])
        lines += dice.maybe(0.1, lambda: [expression("kubernetes.io/arch", "In", "amd64")], [])
        labels = None
        if dice.rarely(0.3):
            lines.append(expression("tier", "In", *dice.some(TIERS)))
        elif dice.rarely(0.1):
            lines.append(expression("tier", "Exists"))
        elif dice.rarely(0.2):
            labels = {"tier": dice.one(TIERS)}
        if dice.rarely(0.1):
            least = dice.random.randint(1, 2)
            lines.append({**expression(INSTANCE_TYPE, "Exists"), "minValues": least})
        found.append(
            nodepool(
                f"pool{place}",
                requirements=lines,
                labels=labels,
                taints=dice.maybe(0.2, lambda: [_taint(dice)], ()),
                startup_taints=dice.maybe(0.15, lambda: [taint("boot")], ()),
                weight=dice.maybe(0.35, lambda: dice.random.randint(1, 3)),
                limits=dice.maybe(0.2, lambda: _limits(dice)),
                ready=dice.maybe(0.06, lambda: False),
                replicas=dice.maybe(0.04, lambda: 1),
            )
        )
    for item in found:
        if "replicas" in item["spec"]:
            item["spec"].pop("weight", None)
            item["spec"].pop("limits", None)
    return found


def _limits(dice: _Dice) -> dict[str, str]:
    return dict(
        dice.one([{"cpu": "8"}, {"cpu": "16"}, {"nodes": "1"}, {"nodes": "2"}, {"memory": "40Gi"}])
    )


def _taint(dice: _Dice) -> Json:
    return taint("x", dice.one(["NoSchedule", "NoSchedule", "NoExecute", "PreferNoSchedule"]))


# What is there.


def _nodes(dice: _Dice, pools: Sequence[str]) -> list[Json]:
    found: list[Json] = []
    for place in range(dice.random.randint(0, 2)):
        pool = dice.maybe(0.85, lambda: dice.one(pools))
        name, zone = f"n{place}", dice.one(ZONES[:2] if dice.tiny else ZONES)
        initialized = not dice.rarely(0.2)
        labels = dice.maybe(0.3, lambda: {"tier": dice.one(TIERS)}, {})
        taints = dice.maybe(0.15, lambda: [_taint(dice)], [])
        if not initialized:
            taints = [*taints, taint("boot"), taint("node.kubernetes.io/not-ready", "NoExecute")]
        taints += dice.maybe(0.06, lambda: [taint("karpenter.sh/disrupted")], [])
        item = node(
            name,
            pool=pool,
            zone=zone,
            capacity_type=dice.one(["spot", "on-demand"]),
            cpu=dice.one(["2", "4", "8"]),
            memory=dice.one(["8Gi", "16Gi"]),
            pods=dice.one(["3", "110"]),
            labels=labels,
            taints=taints,
            initialized=initialized,
            resources=dice.maybe(0.2, lambda: {"nvidia.com/gpu": dice.one(["0", "1"])}),
            spec=dice.maybe(0.05, lambda: {"unschedulable": True}),
            metadata=dice.maybe(0.08, lambda: {"deletionTimestamp": "2026-11-23T11:59:00Z"}),
        )
        found.append(item)
        if pool is not None and dice.rarely(0.5):
            found.append(
                nodeclaim(
                    f"claim-{name}",
                    pool=pool,
                    zone=zone,
                    resources=dice.maybe(0.3, lambda: {"nvidia.com/gpu": "1"}),
                    node_name=name,
                    provider_id=item["spec"]["providerID"],
                    startup_taints=[taint("boot")],
                )
            )
        found += dice.maybe(0.15, lambda: [csi_node(name, dice.random.randint(1, 2))], [])  # noqa: B023
        found += [
            _running(dice, f"old{place}-{index}", name) for index in range(dice.one([0, 1, 1, 2]))
        ]
    if dice.rarely(0.15):
        zone = dice.one(ZONES[:2])
        found.append(nodeclaim("flying", pool=dice.one(pools), zone=zone))
    return found


def _running(dice: _Dice, name: str, on: str) -> Json:
    return pod(
        name,
        namespace=dice.maybe(0.15, lambda: "other", "default"),
        node=on,
        cpu=dice.one(["100m", "500m", "1"]),
        labels={"app": dice.one(APPS)},
        apart=dice.maybe(0.25, lambda: [_term(dice)]),
        near=dice.maybe(0.05, lambda: [_term(dice)]),
        host_port=dice.maybe(0.08, lambda: 80),
        claims=dice.maybe(0.1, lambda: [dice.one(["bound", "mounted"])], ()),
        owner=("ReplicaSet", "rs"),
        annotations=dice.maybe(0.08, lambda: {"karpenter.sh/do-not-disrupt": "true"}),
        metadata=dice.maybe(0.06, lambda: {"deletionTimestamp": "2026-11-23T11:59:00Z"}),
        status=dice.maybe(0.05, lambda: {"phase": "Succeeded"}),
    )


# Who waits.


def _term(dice: _Dice) -> Json:
    more: dict[str, Any] = {}
    if dice.rarely(0.12):
        more["namespaces"] = dice.some(SPACES)
    if dice.rarely(0.12):
        more["namespaceSelector"] = dice.one([{}, {"matchLabels": {"team": "x"}}])
    if dice.rarely(0.1):
        more[dice.one(["matchLabelKeys", "mismatchLabelKeys"])] = ["rev"]
    return term(dice.one(KEYS), dice.maybe(0.95, lambda: {"app": dice.one(APPS)}), **more)


def _spread(dice: _Dice, app: str) -> Json:
    more: dict[str, Any] = {}
    soft = dice.rarely(0.3)
    if dice.rarely(0.15):
        more["nodeAffinityPolicy"] = dice.one(["Honor", "Ignore"])
    if dice.rarely(0.15):
        more["nodeTaintsPolicy"] = dice.one(["Honor", "Ignore"])
    if dice.rarely(0.12) and not soft:
        more["minDomains"] = dice.random.randint(1, 4)
    if dice.rarely(0.1):
        more["matchLabelKeys"] = ["rev"]
    labels = dice.maybe(0.9, lambda: {"app": dice.maybe(0.75, lambda: app, dice.one(APPS))})
    if dice.rarely(0.05):
        labels = {}
    return spread(dice.one(KEYS), labels, skew=dice.one([1, 1, 2]), soft=soft, **more)


def _line(dice: _Dice) -> Json:
    draws: list[Callable[[], Json]] = [
        lambda: expression(ZONE, "In", *dice.some(ZONES)),
        lambda: expression(ZONE, "NotIn", dice.one(ZONES)),
        lambda: expression(CAPACITY_TYPE, "In", dice.one(["spot", "on-demand"])),
        lambda: expression("tier", "In", dice.one(TIERS)),
        lambda: expression("tier", "NotIn", dice.one(TIERS)),
        lambda: expression("tier", dice.one(["Exists", "DoesNotExist"])),
        lambda: expression("size", "Gt", dice.one(["2", "4"])),
        lambda: expression("size", "Lt", dice.one(["5", "9"])),
        lambda: expression("size", "DoesNotExist"),
        lambda: expression("tenancy", dice.one(["In", "NotIn"]), "dedicated"),
        lambda: expression("kubernetes.io/arch", "In", dice.one(["amd64", "arm64"])),
        lambda: expression(INSTANCE_TYPE, "NotIn", "t0"),
        lambda: expression(NODEPOOL, "In", dice.one(["pool0", "pool1"])),
    ]
    found: Json = dice.one(draws)()
    return found


def _required(dice: _Dice) -> list[Json]:
    terms: list[Json] = []
    for _ in range(dice.one([1, 1, 2])):
        lines = [_line(dice) for _ in range(dice.one([1, 1, 2]))]
        terms.append({"matchExpressions": lines})
    if dice.rarely(0.06):
        terms = [{"matchFields": [expression("metadata.name", "In", "n0")]}]
    return terms


def _shape(dice: _Dice, owner: int) -> dict[str, Any]:
    app = dice.one(APPS)
    crowd = 0.45
    labels = {"app": app, **dice.maybe(0.25, lambda: {"rev": dice.one("12")}, {})}
    found: dict[str, Any] = {
        "namespace": dice.maybe(0.12, lambda: "other", "default"),
        "cpu": dice.one(["0", "250m", "1", "1500m", "3", "7"]),
        "memory": dice.one(["64Mi", "1Gi", "6Gi"]),
        "gpu": dice.maybe(0.15, lambda: dice.random.randint(1, 3)),
        "labels": labels,
        "required": dice.maybe(0.25, lambda: _required(dice)),
        "preferred": dice.maybe(0.12, lambda: [preference(dice.one([1, 9]), _line(dice))]),
        "tolerations": dice.maybe(0.3, lambda: [tolerates("x")]),
        "spread": dice.maybe(crowd, lambda: [_spread(dice, app) for _ in range(dice.one([1, 2]))]),
        "near": dice.maybe(0.2, lambda: [_term(dice) for _ in range(dice.one([1, 1, 2]))]),
        "apart": dice.maybe(0.2, lambda: [_term(dice) for _ in range(dice.one([1, 1, 2]))]),
        "near_preferred": dice.maybe(0.06, lambda: [wish(5, _term(dice))]),
        "apart_preferred": dice.maybe(0.08, lambda: [wish(5, _term(dice))]),
        "host_port": dice.maybe(0.08, lambda: dice.one([80, 81])),
        "claims": dice.maybe(
            0.12, lambda: [dice.one(["bound", "free", "mounted", "ghost", f"own{owner}"])], ()
        ),
        "priority": dice.maybe(0.15, lambda: dice.random.randint(0, 2)),
        "selector": dice.maybe(0.06, lambda: {ZONE: dice.one(ZONES)}),
    }
    if dice.rarely(0.05):
        found["annotations"] = {"outrider.dev/gang": f"g{owner}"}
        found["annotations"] |= dice.maybe(0.4, lambda: {"outrider.dev/gang-zone": "same"}, {})
    if dice.rarely(0.06):
        sidecar = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
        big = {"name": "i", "resources": {"limits": {"cpu": "3", "memory": "2Gi"}}}
        found["spec"] = {"initContainers": dice.one([[sidecar, big], [big, sidecar]])}
    return found


def _owners(dice: _Dice) -> list[Json]:
    found: list[Json] = []
    most = 6 if dice.tiny else 14
    for owner in range(dice.random.randint(1, 3 if dice.tiny else 5)):
        shape = _shape(dice, owner)
        found += [
            pod(f"p{owner}-{place}", **shape) for place in range(dice.one([1, 1, 2, 2, 3, 4]))
        ]
    return found[:most]


# Everything else.


def _daemons(dice: _Dice, nodes: Sequence[Json]) -> list[Json]:
    found: list[Json] = []
    for place in range(dice.one([0, 0, 1, 2])):
        selector = dice.maybe(
            0.4,
            lambda: dice.one([{ZONE: ZONES[0]}, {"kubernetes.io/arch": "amd64"}, {"size": "8"}]),
        )
        name = f"d{place}"
        found.append(
            daemonset(
                name,
                cpu=dice.one(["50m", "200m", "1"]),
                host_port=dice.maybe(0.1, lambda: 80),
                **({"nodeSelector": selector} if selector else {}),
                **dice.maybe(0.3, lambda: {"tolerations": [tolerates("x")]}, {}),
            )
        )
        hosts = [item["metadata"]["name"] for item in nodes if item["kind"] == "Node"]
        if hosts and dice.rarely(0.3):
            live = pod(
                f"{name}-live",
                namespace="kube-system",
                node=hosts[0],
                cpu=dice.one(["50m", "300m"]),
                owner=("DaemonSet", name),
            )
            found.append(live)
    return found


def _storage(dice: _Dice, waiting: Sequence[Json], nodes: Sequence[Json]) -> list[Json]:
    used = {
        (item["metadata"]["namespace"], it["persistentVolumeClaim"]["claimName"])
        for item in (*waiting, *nodes)
        if item["kind"] == "Pod"
        for it in item["spec"].get("volumes", ())
    }
    found: list[Json] = []
    for namespace, name in sorted(used):
        if name == "ghost":
            continue
        bound = {"bound": "v-bound", "mounted": "v-mounted"}.get(name)
        found.append(claim(name, namespace=namespace, volume=bound))
    if used:
        found.append(storage_class(zones=dice.maybe(0.5, lambda: ZONES[:2], ())))
        found.append(volume("v-bound", [expression(ZONE, "In", ZONES[0])]))
        found.append(
            volume(
                "v-mounted",
                [expression(ZONE, "In", ZONES[0])],
                [expression(ZONE, "In", ZONES[1])],
            )
        )
    return found


def _rest(dice: _Dice) -> list[Json]:
    found: list[Json] = []
    if dice.rarely(0.3):
        about = {"name": "other", "labels": dice.maybe(0.5, lambda: {"team": "x"}, {})}
        found.append({"apiVersion": "v1", "kind": "Namespace", "metadata": about})
    if dice.rarely(0.15):
        found.append(
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"name": "pdb", "namespace": "default"},
                "spec": {"selector": {"matchLabels": {"app": "a"}}, "maxUnavailable": 1},
                "status": {"disruptionsAllowed": dice.one([0, 1])},
            }
        )
    if dice.rarely(0.12):
        line = dice.one(
            [
                expression(CAPACITY_TYPE, "In", "spot"),
                expression("size", "Gt", "3"),
                expression(ZONE, "In", ZONES[0]),
            ]
        )
        price = dice.one([{"priceAdjustment": "+50%"}, {"priceAdjustment": "-0.1"}, {"price": "9"}])
        found.append(
            {
                "apiVersion": "karpenter.sh/v1alpha1",
                "kind": "NodeOverlay",
                "metadata": {"name": "overlay"},
                "spec": {"requirements": [line], **price},
            }
        )
    return found
