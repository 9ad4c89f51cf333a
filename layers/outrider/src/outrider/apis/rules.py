"""The rules between fields of Karpenter's kinds, in CEL, for the CustomResourceDefinitions.

Each is what a validator of the models says, said again for the API server, with the message of
Karpenter's own definitions where there is one. A test holds the two together in both directions.

Two rules that Karpenter checks after the API server has taken the object (a taint is there twice; a
schedule that no clock can follow) are not here: CEL cannot say them within its cost limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from outrider.apis import model, nodeclaim, nodeclass, nodepool, overlay, requirement
from outrider.apis.kubelet import RESERVABLE, SIGNALS, Kubelet
from outrider.apis.selectors import (
    FAMILIES,
    AMISelectorTerm,
    CapacityReservationSelectorTerm,
    PlacementGroupSelector,
    SecurityGroupSelectorTerm,
    SubnetSelectorTerm,
)

Rule = tuple[str, str]  # CEL, message


def _list(names: Iterable[str]) -> str:
    return f"[{', '.join(repr(name) for name in names)}]"


_REQUIREMENTS: Sequence[Rule] = (
    (
        "self.all(x, x.operator == 'In' ? has(x.values) && x.values.size() != 0 : true)",
        "requirements with operator 'In' must have a value defined",
    ),
    (
        (
            "self.all(x, (x.operator == 'Gt' || x.operator == 'Lt' || x.operator == 'Gte' ||"
            " x.operator == 'Lte') ? (has(x.values) && x.values.size() == 1 &&"
            " int(x.values[0]) >= 0) : true)"
        ),
        (
            "requirements operator 'Gt', 'Lt', 'Gte', or 'Lte' must have a single positive integer"
            " value"
        ),
    ),
    (
        (
            "self.all(x, (x.operator == 'In' && has(x.minValues) && has(x.values)) ?"
            " x.values.size() >= x.minValues : true)"
        ),
        (
            "requirements with 'minValues' must have at least that many values specified"
            " in the 'values' field"
        ),
    ),
)


def _not_owned(key: str, allowed: Iterable[str], *, aws: bool = True) -> Sequence[Rule]:
    """Return the rules of label keys that a user may set: what Karpenter or the node own is out."""
    known = _list(sorted(allowed))
    rules = [
        (
            f"self.all(x, {key} in {known} || !{key}.matches('^[^/]*karpenter[.]sh(/|$)'))",
            'label domain "karpenter.sh" is restricted',
        ),
        (
            f"self.all(x, {key} != 'kubernetes.io/hostname')",
            'label "kubernetes.io/hostname" is restricted',
        ),
    ]
    if aws:
        rules.append(
            (
                (
                    f"self.all(x, {key} in {known} ||"
                    f" {key}.startsWith('{requirement.INSTANCE_LABELS}') ||"
                    f" !{key}.matches('^[^/]*karpenter[.]k8s[.]aws(/|$)'))"
                ),
                'label domain "karpenter.k8s.aws" is restricted',
            )
        )
    return rules


def _one_of(*ways: str) -> Rule:
    """Return the rule that each term of a list gives one of *ways*."""
    given = " || ".join(f"has(x.{way})" for way in ways)
    return f"self.all(x, {given})", f"expected at least one, got none, {_list(ways)}"


def _alone(way: str, others: Sequence[str], *, of: str) -> Rule:
    """Return Karpenter's rule that *way* is not set with *others* in a term *of* some kind.

    It refuses only a list in which every term mixes them, as Karpenter's does.
    """
    mixed = " || ".join(f"has(x.{other})" for other in others)
    return (
        f"self.size() == 0 || !self.all(x, has(x.{way}) && ({mixed}))",
        (
            f"'{way}' is mutually exclusive, cannot be set with a combination of other fields in a"
            f" {of} selector term"
        ),
    )


_TAGS: Sequence[Rule] = (
    ("self.all(k, k != '' && self[k] != '')", "empty tag keys or values aren't supported"),
)
_IMAGES = "cannot be set with a combination of other fields in amiSelectorTerms"


def _reserved(field: str) -> Sequence[Rule]:
    return (
        (
            f"self.all(x, x in {_list(RESERVABLE)})",
            f"valid keys for {field} are {_list(RESERVABLE)}",
        ),
    )


def _signals(field: str) -> Sequence[Rule]:
    return (
        (f"self.all(x, x in {_list(SIGNALS)})", f"valid keys for {field} are {_list(SIGNALS)}"),
    )


def _matching(field: str, other: str) -> Rule:
    return (
        (f"has(self.{field}) ? self.{field}.all(e, has(self.{other}) && e in self.{other}) : true"),
        f"every {field} key must have a matching {other}",
    )


def _not_empty(field: str) -> Sequence[Rule]:
    return (("self != ''", f"{field} may not be empty"),)


def _tag_keys() -> Sequence[Rule]:
    exact = (
        "eks:eks-cluster-name",
        "karpenter.sh/nodepool",
        "karpenter.sh/nodeclaim",
        "karpenter.k8s.aws/ec2nodeclass",
    )
    return (
        ("self.all(k, k != '')", "empty tag keys aren't supported"),
        *(
            (f"self.all(k, k != '{key}')", f"tag contains a restricted tag matching {key}")
            for key in exact
        ),
        (
            "self.all(k, !k.startsWith('kubernetes.io/cluster'))",
            "tag contains a restricted tag matching kubernetes.io/cluster/",
        ),
    )


def _families() -> Sequence[Rule]:
    return tuple(
        (
            (
                f"!has(self.amiFamily) || self.amiFamily in ['Custom', '{family}'] ||"
                " !self.amiSelectorTerms.exists(x, has(x.alias) &&"
                f" x.alias.startsWith('{alias}@'))"
            ),
            f"if set, amiFamily must be '{family}' or 'Custom' when using a {family} alias",
        )
        for alias, family in FAMILIES.items()
    )


# Rules by model and by the field (its name in the API) they are about; "" is the model itself.
RULES: Mapping[tuple[type[model.Model], str], Sequence[Rule]] = {
    (nodepool.NodePoolSpec, ""): (
        (
            "has(self.replicas) == has(oldSelf.replicas)",
            (
                "Cannot transition NodePool between static (replicas set) and dynamic (replicas"
                " unset) provisioning modes"
            ),
        ),
        (
            "!has(self.replicas) || !has(self.limits) || self.limits.all(k, k == 'nodes')",
            "only 'limits.nodes' is supported on static NodePools",
        ),
        (
            "!has(self.replicas) || !has(self.weight)",
            "'weight' is not supported on static NodePools",
        ),
    ),
    (nodepool.Disruption, "budgets"): (
        (
            "self.all(x, has(x.schedule) == has(x.duration))",
            "'schedule' must be set with 'duration'",
        ),
    ),
    (nodepool.TemplateMeta, "labels"): _not_owned("x", requirement.IN_POOLS),
    (nodepool.TemplateSpec, "requirements"): (
        *_REQUIREMENTS,
        *_not_owned("x.key", requirement.IN_POOLS),
    ),
    (nodepool.TemplateSpec, "nodeClassRef"): (
        ("self.group == oldSelf.group", "nodeClassRef.group is immutable"),
        ("self.kind == oldSelf.kind", "nodeClassRef.kind is immutable"),
    ),
    (model.NodeClassRef, "group"): _not_empty("group"),
    (model.NodeClassRef, "kind"): _not_empty("kind"),
    (model.NodeClassRef, "name"): _not_empty("name"),
    (nodeclaim.NodeClaimSpec, ""): (("self == oldSelf", "spec is immutable"),),
    (nodeclaim.NodeClaimSpec, "requirements"): (
        *_REQUIREMENTS,
        *_not_owned("x.key", requirement.IN_CLAIMS),
    ),
    (overlay.NodeOverlaySpec, "requirements"): (
        (
            "self.all(x, x.operator == 'NotIn' ? has(x.values) && x.values.size() != 0 : true)",
            "requirements with operator 'NotIn' must have a value defined",
        ),
        *_REQUIREMENTS,
        *_not_owned("x.key", requirement.IN_OVERLAYS, aws=False),
    ),
    (overlay.NodeOverlaySpec, "capacity"): (
        (
            "self.all(x, !(x in ['cpu', 'memory', 'ephemeral-storage', 'pods']))",
            "invalid resource restricted",
        ),
    ),
    (overlay.NodeOverlaySpec, ""): (
        (
            "!has(self.price) || !has(self.priceAdjustment)",
            "cannot set both 'price' and 'priceAdjustment'",
        ),
    ),
    (nodeclass.EC2NodeClassSpec, ""): (
        (
            "has(self.role) != has(self.instanceProfile)",
            "must specify exactly one of ['role', 'instanceProfile']",
        ),
        (
            "has(self.amiFamily) || self.amiSelectorTerms.exists(x, has(x.alias))",
            "must specify amiFamily if amiSelectorTerms does not contain an alias",
        ),
        *_families(),
    ),
    (nodeclass.EC2NodeClassSpec, "subnetSelectorTerms"): (
        _one_of("tags", "id"),
        _alone("id", ("tags",), of="subnet"),
    ),
    (nodeclass.EC2NodeClassSpec, "securityGroupSelectorTerms"): (
        _one_of("tags", "id", "name"),
        _alone("id", ("tags", "name"), of="security group"),
        _alone("name", ("tags", "id"), of="security group"),
    ),
    (nodeclass.EC2NodeClassSpec, "capacityReservationSelectorTerms"): (
        _one_of("tags", "id", "instanceMatchCriteria"),
        _alone("id", ("tags", "ownerID", "instanceMatchCriteria"), of="capacity reservation"),
    ),
    (nodeclass.EC2NodeClassSpec, "amiSelectorTerms"): (
        _one_of("tags", "id", "name", "alias", "ssmParameter"),
        (
            (
                "!self.exists(x, has(x.id) && (has(x.alias) || has(x.tags) || has(x.name) ||"
                " has(x.owner)))"
            ),
            f"'id' is mutually exclusive, {_IMAGES}",
        ),
        (
            (
                "!self.exists(x, has(x.alias) && (has(x.id) || has(x.tags) || has(x.name) ||"
                " has(x.owner)))"
            ),
            f"'alias' is mutually exclusive, {_IMAGES}",
        ),
        (
            "!(self.exists(x, has(x.alias)) && self.size() != 1)",
            (
                "'alias' is mutually exclusive, cannot be set with a combination of other"
                " amiSelectorTerms"
            ),
        ),
    ),
    (AMISelectorTerm, "alias"): (
        (
            f"self.matches('^({'|'.join(FAMILIES)})@')",
            f"family is not supported, must be one of the following: {_list(FAMILIES)}",
        ),
        (
            "!self.startsWith('windows') || self.endsWith('@latest')",
            "windows families may only specify version 'latest'",
        ),
    ),
    (AMISelectorTerm, "tags"): _TAGS,
    (SubnetSelectorTerm, "tags"): _TAGS,
    (SecurityGroupSelectorTerm, "tags"): _TAGS,
    (CapacityReservationSelectorTerm, "tags"): _TAGS,
    (PlacementGroupSelector, ""): (
        ("has(self.name) != has(self.id)", "exactly one of 'name' and 'id' must be set"),
    ),
    (nodeclass.EC2NodeClassSpec, "blockDeviceMappings"): (
        (
            "self.filter(x, has(x.rootVolume) && x.rootVolume).size() <= 1",
            "must have only one blockDeviceMappings with rootVolume",
        ),
    ),
    (nodeclass.BlockDevice, ""): (
        (
            "has(self.snapshotID) || has(self.volumeSize)",
            "snapshotID or volumeSize must be defined",
        ),
        (
            (
                "!has(self.volumeInitializationRate) ||"
                " (has(self.snapshotID) && self.snapshotID != '')"
            ),
            "snapshotID must be set when volumeInitializationRate is set",
        ),
    ),
    (nodeclass.EC2NodeClassSpec, "tags"): _tag_keys(),
    (Kubelet, "kubeReserved"): _reserved("kubeReserved"),
    (Kubelet, "systemReserved"): _reserved("systemReserved"),
    **{
        (Kubelet, field): _signals(field)
        for field in (
            "evictionHard",
            "evictionSoft",
            "evictionSoftGracePeriod",
            "evictionMinimumReclaim",
        )
    },
    (Kubelet, ""): (
        _matching("evictionSoft", "evictionSoftGracePeriod"),
        _matching("evictionSoftGracePeriod", "evictionSoft"),
        (
            (
                "(has(self.imageGCHighThresholdPercent) && has(self.imageGCLowThresholdPercent)) ?"
                " self.imageGCHighThresholdPercent > self.imageGCLowThresholdPercent : true"
            ),
            "imageGCHighThresholdPercent must be greater than imageGCLowThresholdPercent",
        ),
    ),
}
