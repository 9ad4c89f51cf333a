"""What a pod asks of a node: the effective request of all its containers.

Decides it as kube-scheduler's resource helper does: limits stand in for missing requests,
sidecars (restartable init containers) add to what comes after them (KEP-753), init containers
count by their peak, pod-level resources replace the sum (KEP-2837), overhead is added, a resize
in place counts the larger of the old and the new (of one that the node cannot grant, the old), and
every pod takes one of `pods`. Refuses to
know RuntimeClasses: their overhead is written into the pod by admission, or by
`core.clusterstate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import orjson

from outrider.apis.fields import Json, join, mapping, objects
from outrider.apis.quantity import Resources, milli, resources
from outrider.errors import InvalidManifest

MOST_CONTAINERS = 1000
"""More containers than this is an attack or an accident: etcd would not store the pod."""

_POD_LEVEL = ("cpu", "memory")


def effective(spec: Json, status: Json | None = None) -> Resources:
    """Return the effective request in a PodSpec, with *status* for a pod that runs.

    Pods that say the same share one (immutable by convention) mapping.
    """
    containers = spec.get("containers") or ()
    starters = spec.get("initContainers") or ()
    try:
        parts = (
            [container.get("resources") for container in containers],
            [(starter.get("resources"), starter.get("restartPolicy")) for starter in starters],
            spec.get("overhead"),
            spec.get("resources"),
        )
        text = orjson.dumps(parts)
    except (AttributeError, TypeError):
        return _read(spec)  # which names what is wrong
    if len(text) > 2**20 or len(containers) + len(starters) > MOST_CONTAINERS:
        return _read(spec)
    request = _cached(text)
    allocated = _allocated(status) if status else None
    return _resized(spec, status or {}, allocated) if allocated else request


@lru_cache(maxsize=16384)
def _cached(text: bytes) -> Resources:
    containers, starters, overhead, pod_level = orjson.loads(text)
    return _read(
        {
            "containers": [{"resources": resource} for resource in containers],
            "initContainers": [
                {"resources": resource, "restartPolicy": policy} for resource, policy in starters
            ],
            "overhead": overhead,
            "resources": pod_level,
        }
    )


def _read(spec: Json) -> Resources:
    containers = objects(spec, "containers", "spec")
    starters = objects(spec, "initContainers", "spec")
    if len(containers) + len(starters) > MOST_CONTAINERS:
        raise InvalidManifest(f"must have at most {MOST_CONTAINERS}", path="spec.containers")
    request = _peak(
        [
            _container(container, f"spec.containers[{index}]")
            for index, container in enumerate(containers)
        ],
        [
            (
                _container(starter, f"spec.initContainers[{index}]"),
                starter.get("restartPolicy") == "Always",
            )
            for index, starter in enumerate(starters)
        ],
    )
    _pod_level(request, mapping(spec, "resources", "spec"))
    for name, value in resources(spec.get("overhead"), "spec.overhead").items():
        request[name] = request.get(name, 0) + value
    request = {name: value for name, value in request.items() if value}
    request["pods"] = 1
    return request


def _container(container: Json, path: str) -> Resources:
    where = join(path, "resources")
    source = mapping(container, "resources", path)
    asked = resources(source.get("requests"), join(where, "requests"))
    limits = resources(source.get("limits"), join(where, "limits"))
    for amounts, part in ((source.get("requests"), "requests"), (source.get("limits"), "limits")):
        _whole(amounts, join(where, part))
    for name, value in asked.items():
        if value > limits.get(name, value):
            raise InvalidManifest("must not exceed the limit", path=join(where, f"requests.{name}"))
    return {**limits, **asked}


def _whole(amounts: object, path: str) -> None:
    """Refuse shares of an extended resource among *amounts*, as the API server does."""
    for name, value in amounts.items() if isinstance(amounts, Mapping) else ():
        if "/" in name and not name.startswith("hugepages-") and milli(value) % 1000:
            raise InvalidManifest("must be an integer", path=join(path, name))


def _peak(
    containers: Sequence[Resources], starters: Sequence[tuple[Resources, bool]]
) -> dict[str, int]:
    running: dict[str, int] = {}
    for container in containers:
        _add(running, container)
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for starter, restartable in starters:
        if restartable:
            _add(running, starter)
            _add(sidecars, starter)
            _raise(peak, sidecars)
        else:
            step = dict(sidecars)
            _add(step, starter)
            _raise(peak, step)
    _raise(running, peak)
    return running


def _add(total: dict[str, int], amounts: Resources) -> None:
    for name, value in amounts.items():
        total[name] = total.get(name, 0) + value


def _raise(highest: dict[str, int], amounts: Resources) -> None:
    for name, value in amounts.items():
        if value > highest.get(name, 0):
            highest[name] = value


def _pod_level(request: dict[str, int], source: Json) -> None:
    if not source:
        return
    limits = resources(source.get("limits"), "spec.resources.limits")
    asked = resources(source.get("requests"), "spec.resources.requests")
    for name in sorted({*limits, *asked}):
        if name not in _POD_LEVEL and not name.startswith("hugepages-"):
            raise InvalidManifest("is not a pod-level resource", path=f"spec.resources.{name}")
        if name in asked:
            request[name] = asked[name]
        elif name not in request:
            request[name] = limits[name]


def _allocated(status: Json) -> Mapping[str, Resources]:
    found: dict[str, Resources] = {}
    for field in ("containerStatuses", "initContainerStatuses"):
        for item in status.get(field) or ():
            granted: dict[str, int] = {}
            _raise(granted, resources(item.get("allocatedResources"), f"status.{field}"))
            now = (item.get("resources") or {}).get("requests")
            _raise(granted, resources(now, f"status.{field}"))
            if granted:
                found[item.get("name", "")] = granted
    return found


def _is_infeasible(status: Json) -> bool:
    """Return whether the node can never grant the resize that the spec asks for."""
    return status.get("resize") == "Infeasible" or any(
        item.get("type") == "PodResizePending" and item.get("reason") == "Infeasible"
        for item in status.get("conditions") or ()
    )


def _resized(spec: Json, status: Json, allocated: Mapping[str, Resources]) -> Resources:
    infeasible = _is_infeasible(status)

    def granted(container: Json, path: str) -> Json:
        has = allocated.get(container.get("name", ""))
        if has is None:
            return container
        asked = dict(_container(container, path))
        if infeasible:
            asked.update({name: has[name] for name in asked.keys() & has.keys()})
        _raise(asked, has)
        return {**container, "resources": {"requests": _exactly(asked)}}

    return _read(
        {
            **spec,
            "containers": [
                granted(item, f"spec.containers[{index}]")
                for index, item in enumerate(spec.get("containers") or ())
            ],
            "initContainers": [
                granted(item, f"spec.initContainers[{index}]")
                if item.get("restartPolicy") == "Always"
                else item
                for index, item in enumerate(spec.get("initContainers") or ())
            ],
        }
    )


def _exactly(amounts: Resources) -> Mapping[str, str]:
    return {name: f"{value}m" if name == "cpu" else str(value) for name, value in amounts.items()}
