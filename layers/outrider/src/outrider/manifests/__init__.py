"""What goes into the cluster: access for the functions, the CRDs, the webhook. Values, not files.

`render` gives the objects, `as_yaml` their text; `outrider manifests` prints it and the embedded
cloud applies the very same objects. Installing is the reader's act: CRDs that a cluster has (a
Karpenter's) are left as they are, by the installer as by `kubectl create`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from outrider.manifests import rbac, webhook

Part = Literal["rbac", "crds", "webhook", "all"]
PARTS: tuple[str, ...] = get_args(Part)


def render(
    part: Part = "all",
    *,
    cluster: str,
    webhook_url: str | None = None,
    ca_bundle: str | None = None,
    schedulers: Sequence[str] = webhook.SCHEDULERS,
) -> list[dict[str, Any]]:
    """Return the objects of *part* for *cluster*, in the order in which they are applied.

    Without a *webhook_url* the webhook points at a placeholder that leads nowhere.
    """
    objects: list[dict[str, Any]] = []
    if part in {"crds", "all"}:
        from outrider.apis import crds  # noqa: PLC0415  # the models behind it cost half a second

        objects += crds.crds()
    if part in {"rbac", "all"}:
        objects += rbac.objects()
    if part in {"webhook", "all"}:
        objects.append(
            webhook.configuration(cluster, webhook_url, ca_bundle=ca_bundle, schedulers=schedulers)
        )
    return objects


def as_yaml(objects: Iterable[Mapping[str, Any]]) -> str:
    """Return *objects* as a YAML stream."""
    import yaml  # noqa: PLC0415  # the layer of the functions has no use for it

    class Plain(yaml.SafeDumper):
        """YAML without anchors: every object reads by itself."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # PyYAML's signature
            return True

    return str(
        yaml.dump_all(objects, Dumper=Plain, sort_keys=False, explicit_start=True, width=100)
    )
