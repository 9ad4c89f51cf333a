"""Which pods a NodeClaim was planned for: the annotation that binds them until they are bound.

Refuses to know more of launching than that, so that planning need not load how nodes are launched.
"""

from __future__ import annotations

from collections.abc import Mapping

from outrider.apis import labels


def planned_pods(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """Return the pods that a NodeClaim with *annotations* was planned for."""
    return tuple(filter(None, annotations.get(labels.PODS, "").split(",")))
