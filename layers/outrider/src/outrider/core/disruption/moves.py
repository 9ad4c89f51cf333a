"""How often pods have been moved of late: the reason why consolidation comes to rest.

A pod that is moved comes back under another name, so it is the nodes that remember: one that takes
moved pods notes their owners, how often each was moved, and when. Pods of such an owner that
started since then count as moved, for a day. Consolidation weighs them heavier, asks more of a node
that has them, and leaves a node alone on which one has been moved as often as a day allows. So it
moves no pod more often than that, however the load changes (where the scheduler puts pods elsewhere
than planned, the note is on the wrong node, and the promise is a good guess). Karpenter has no such
rule: consolidateAfter does not bound how often one pod moves.

Refuses to judge who is disrupted for other reasons: drift and expiry note, and are not held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from outrider.apis import labels
from outrider.apis.node import Node
from outrider.apis.pod import Pod
from outrider.core.clusterstate import ClusterState
from outrider.core.disruption.cost import BASE, eviction_cost
from outrider.core.disruption.result import Command

DAY = timedelta(days=1)
HEAVIER = 3
"""So much more each earlier move makes the next one cost, and have to save."""

Note = Mapping[str, tuple[int, datetime, datetime]]
"""How often pods of an owner were moved, when first and when last, by the owner's short name."""


def times(node: Node, pod: Pod, now: datetime) -> int:
    """Return how often *pod*, which runs on *node*, was moved within a day, as far as is known."""
    return _times(_read(node), pod, now)


def most(node: Node, pods: Iterable[Pod], now: datetime) -> int:
    """Return how often the most moved of *pods*, which run on *node*, was moved within a day."""
    note = _read(node)
    return max((_times(note, pod, now) for pod in pods), default=0) if note else 0


def cost(node: Node, pods: Iterable[Pod], now: datetime) -> float:
    """Return what moving *pods* off *node* costs, those more that were moved before."""
    note = _read(node)
    return BASE + sum(
        max(0.0, eviction_cost(pod)) * (1 + HEAVIER * _times(note, pod, now)) for pod in pods
    )


def notes(state: ClusterState, commands: Iterable[Command], now: datetime) -> dict[str, str]:
    """Return by name what the existing nodes that take pods by *commands* are to remember."""
    taken: dict[str, list[tuple[Pod, int]]] = {}
    for command in commands:
        moved = _moved(state, command, now)
        for item in command.placements:
            if item.pod in moved:
                taken.setdefault(item.node, []).append(moved[item.pod])
    found = {}
    for name, pods in sorted(taken.items()):
        node = state.node(name)
        if node is not None:
            staying = {_owner(pod) for pod in state.pods_on(name)}
            kept = {key: entry for key, entry in _read(node).items() if key in staying}
            found[name] = _text(_merged(kept, pods, now), now)
    return found


def launch_note(state: ClusterState, command: Command, pods: Iterable[str], now: datetime) -> str:
    """Return what a node that *command* launches for *pods* is to remember."""
    moved = _moved(state, command, now)
    return _text(_merged({}, [moved[key] for key in pods if key in moved], now), now)


def _moved(state: ClusterState, command: Command, now: datetime) -> dict[str, tuple[Pod, int]]:
    """Return the pods of a command's nodes by key, and how often each will have been moved."""
    found = {}
    for name in command.nodes:
        node = state.node(name)
        note = _read(node) if node is not None else {}
        for pod in state.pods_on(name):
            found[pod.key] = pod, _times(note, pod, now) + 1
    return found


def _times(note: Note, pod: Pod, now: datetime) -> int:
    number, first, last = note.get(_owner(pod), (0, now, now)) if note else (0, now, now)
    if now - last >= DAY or (pod.started is not None and pod.started < first):
        return 0
    return number


def _owner(pod: Pod) -> str:
    """Return a short name of what makes *pod* anew."""
    owner = pod.controller
    text = f"{owner.kind}/{owner.uid or owner.name}" if owner is not None else pod.key
    return hashlib.blake2b(f"{pod.namespace}/{text}".encode(), digest_size=4).hexdigest()


def _read(node: Node) -> Note:
    """Return the note of *node*; what cannot be read was not written by us."""
    found = {}
    for part in filter(None, node.annotations.get(labels.MOVED, "").split(",")):
        key, _, rest = part.partition("=")
        entry = rest.split("@")
        if len(entry) == 3 and all(item.isdigit() and len(item) < 12 for item in entry):
            first, last = (datetime.fromtimestamp(int(item), UTC) for item in entry[1:])
            found[key] = int(entry[0]), first, last
    return found


def _merged(kept: Note, pods: Iterable[tuple[Pod, int]], now: datetime) -> Note:
    merged = dict(kept)
    for pod, number in pods:
        key = _owner(pod)
        known, first, last = merged.get(key, (0, now, now))
        fresh = now - last < DAY  # pods that came with an earlier move still count
        merged[key] = max(known if fresh else 0, number), first if fresh else now, now
    return merged


def _text(note: Note, now: datetime) -> str:
    return ",".join(
        f"{key}={number}@{int(first.timestamp())}@{int(last.timestamp())}"
        for key, (number, first, last) in sorted(note.items())
        if now - last < DAY
    )
