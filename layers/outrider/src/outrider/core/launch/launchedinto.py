"""What a node is launched into beside its subnet: written on its NodeClaim, compared by drift.

Security groups and the placement group are an EC2NodeClass's selection at the moment of the launch;
EC2 is not asked again, so what somebody changes on an instance by hand is not seen. Refuses to know
how either is selected.
"""

from __future__ import annotations

from outrider.apis import labels
from outrider.apis.nodeclass import EC2NodeClass


def selected(node_class: EC2NodeClass) -> dict[str, str]:
    """Return what *node_class* launches into now; no placement group is "" there."""
    groups = ",".join(sorted(group.id for group in node_class.status.security_groups))
    found = {labels.PLACEMENT_GROUP: placement_group(node_class)}
    return {**found, labels.SECURITY_GROUPS: groups} if groups else found


def placement_group(node_class: EC2NodeClass) -> str:
    """Return the id or the name of the placement group of *node_class*, "" where it has none."""
    chosen = node_class.spec.placement_group_selector
    return (chosen.id or chosen.name or "") if chosen is not None else ""
