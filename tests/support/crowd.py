"""Pods among pods: topology spread and affinity, scheduled one by one as kube-scheduler does it.

The upper half of the judge in `feasible`: PodTopologySpread and InterPodAffinity over raw
manifests, and the search for an order in which a plan's pods can be scheduled where it puts them.
Imports nothing of the planner's. Refuses to know room, taints and volumes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.support.fits import HOSTNAME, Json, Machine, key_of, matches, selects, tolerated

MOST_STATES = 3000
Home = tuple[Json, Machine]


def hard_spreads(pod: Json) -> list[Json]:
    """Return the spread constraints that bind."""
    return [
        line
        for line in pod["spec"].get("topologySpreadConstraints", ())
        if line.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
    ]


def terms_of(pod: Json, kind: str) -> list[Json]:
    """Return the required terms of `podAffinity` or `podAntiAffinity`."""
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    found: list[Json] = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    return found


def tied(pod: Json) -> bool:
    """Return whether the pod itself looks at other pods."""
    return bool(
        hard_spreads(pod) or terms_of(pod, "podAffinity") or terms_of(pod, "podAntiAffinity")
    )


def _labels(pod: Json) -> Json:
    found: Json = pod["metadata"].get("labels") or {}
    return found


def _also(line: Json, owner: Json, other: Json) -> bool:
    """Return whether matchLabelKeys and mismatchLabelKeys let *other* count."""
    mine, theirs = _labels(owner), _labels(other)
    same = [key for key in line.get("matchLabelKeys", ()) if key in mine]
    differ = [key for key in line.get("mismatchLabelKeys", ()) if key in mine]
    return all(theirs.get(key) == mine[key] for key in same) and all(
        theirs.get(key) != mine[key] for key in differ
    )


def _namespace(pod: Json) -> str:
    return str(pod["metadata"]["namespace"])


def counts(line: Json, owner: Json, other: Json) -> bool:
    """Return whether a spread constraint of *owner* counts *other*."""
    return (
        _namespace(other) == _namespace(owner)
        and matches(line.get("labelSelector"), _labels(other))
        and _also(line, owner, other)
    )


@dataclass
class Crowd:
    """What judging neighbours needs to know of the whole: namespaces, and domains to come."""

    namespaces: Mapping[str, Json]
    could_be: Callable[[Json, Json], frozenset[str]]
    launchable: Callable[[Json], bool]

    def meant(self, term: Json, owner: Json, other: Json) -> bool:
        """Return whether an affinity term of *owner* is about *other*."""
        return self._in(term, owner, _namespace(other)) and (
            matches(term.get("labelSelector"), _labels(other)) and _also(term, owner, other)
        )

    def _in(self, term: Json, owner: Json, namespace: str) -> bool:
        named, selector = term.get("namespaces") or [], term.get("namespaceSelector")
        if not named and selector is None:
            return namespace == _namespace(owner)
        if namespace in named:
            return True
        about = {"kubernetes.io/metadata.name": namespace, **self.namespaces.get(namespace, {})}
        return selector is not None and matches(selector, about)

    def admits(self, pod: Json, machine: Machine, machines: Sequence[Machine]) -> bool:
        """Return whether *pod* may be scheduled on *machine* as things stand on *machines*."""
        return (
            self._near(pod, machine, machines)
            and self._apart(pod, machine, machines)
            and all(self._even(pod, line, machine, machines) for line in hard_spreads(pod))
        )

    def _near(self, pod: Json, machine: Machine, machines: Sequence[Machine]) -> bool:
        terms = terms_of(pod, "podAffinity")
        if not terms:
            return True
        if any(term["topologyKey"] not in machine.labels for term in terms):
            return False

        def suits(other: Json) -> bool:
            return all(self.meant(term, pod, other) for term in terms)

        keys = {term["topologyKey"] for term in terms}
        anywhere = any(
            suits(other)
            for each in machines
            if keys & each.labels.keys()
            for other in _living(each)
        )
        if not anywhere:
            return suits(pod)
        return all(
            any(
                suits(other) for each in _domain(term, machine, machines) for other in _living(each)
            )
            for term in terms
        )

    def _apart(self, pod: Json, machine: Machine, machines: Sequence[Machine]) -> bool:
        for term in terms_of(pod, "podAntiAffinity"):
            for each in _domain(term, machine, machines):
                if any(self.meant(term, pod, other) for other in _living(each)):
                    return False
        for each in machines:
            for other in each.pods:
                for term in terms_of(other, "podAntiAffinity"):
                    value = each.labels.get(term["topologyKey"])
                    same = value is not None and machine.labels.get(term["topologyKey"]) == value
                    if same and self.meant(term, other, pod):
                        return False
        return True

    def _even(self, pod: Json, line: Json, machine: Machine, machines: Sequence[Machine]) -> bool:
        key = line["topologyKey"]
        if key not in machine.labels:
            return False
        numbers: Counter[str] = Counter()
        domains = set()
        for each in machines:
            here = sum(counts(line, pod, other) for other in _living(each))
            # A node that is about to go, or one that is only planned, makes a domain (rule 4) once
            # it holds a pod that counts; what NodePools could make is in could_be.
            gone = (each.leaving or not each.exists) and not here
            if key in each.labels and eligible(pod, line, each) and not gone:
                domains.add(each.labels[key])
                numbers[each.labels[key]] += here
        if key != HOSTNAME:
            domains |= self.could_be(pod, line)
        least = min((numbers[domain] for domain in domains), default=0)
        least = 0 if key == HOSTNAME and self.launchable(pod) else least
        if len(domains) < (line.get("minDomains") or 1):
            least = 0
        here = numbers[machine.labels[key]] + counts(line, pod, pod)
        return bool(here - least <= line["maxSkew"])


def eligible(pod: Json, line: Json, machine: Machine) -> bool:
    """Return whether *machine* is one that a spread constraint of *pod* looks at."""
    if line.get("nodeAffinityPolicy", "Honor") == "Honor" and not selects(
        pod["spec"], machine.labels, machine.name
    ):
        return False
    return line.get("nodeTaintsPolicy", "Ignore") == "Ignore" or tolerated(
        pod["spec"].get("tolerations", ()), machine.taints
    )


def _living(machine: Machine) -> list[Json]:
    """Return the pods that count for spread and affinity: not those that are on their way out."""
    return [pod for pod in machine.pods if "deletionTimestamp" not in pod["metadata"]]


def _domain(term: Json, machine: Machine, machines: Iterable[Machine]) -> list[Machine]:
    value = machine.labels.get(term["topologyKey"])
    return [
        each
        for each in machines
        if value is not None and each.labels.get(term["topologyKey"]) == value
    ]


def stuck(crowd: Crowd, waiting: Sequence[Home], machines: Sequence[Machine]) -> str:
    """Return a pod that is stuck in every order that is tried, "" where one works."""
    before = [list(machine.pods) for machine in machines]
    found = ""
    try:
        for rank in (_tied, _near, _free, _spread, _apart):
            _reset(machines, before)
            found = _one_by_one(crowd, waiting, machines, rank)
            if not found:
                return ""
        _reset(machines, before)
        return "" if _searched(crowd, list(waiting), machines) else found
    finally:
        _reset(machines, before)


def _reset(machines: Sequence[Machine], pods: Sequence[list[Json]]) -> None:
    for machine, mine in zip(machines, pods, strict=True):
        machine.pods[:] = mine


def _one_by_one(
    crowd: Crowd,
    waiting: Sequence[Home],
    machines: Sequence[Machine],
    rank: Callable[[Json], object],
) -> str:
    left = sorted(waiting, key=lambda item: (not rank(item[0]), key_of(item[0])))
    while left:
        for place, (pod, machine) in enumerate(left):
            if crowd.admits(pod, machine, machines):
                machine.pods.append(pod)
                del left[place]
                break
        else:
            return key_of(left[0][0])
    return ""


def _searched(crowd: Crowd, waiting: list[Home], machines: Sequence[Machine]) -> bool:
    """Return whether any order at all works; gives the plan the benefit of a doubt."""
    seen: set[frozenset[str]] = set()

    def go(left: list[Home]) -> bool:
        state = frozenset(key_of(pod) for pod, _ in left)
        if not left or len(seen) > MOST_STATES:
            return True
        if state in seen:
            return False
        seen.add(state)
        for place, (pod, machine) in enumerate(left):
            if crowd.admits(pod, machine, machines):
                machine.pods.append(pod)
                if go(left[:place] + left[place + 1 :]):
                    return True
                machine.pods.pop()
        return False

    return go(waiting)


def _tied(pod: Json) -> bool:
    return tied(pod)


def _near(pod: Json) -> bool:
    return bool(terms_of(pod, "podAffinity"))


def _free(pod: Json) -> bool:
    return not tied(pod)


def _spread(pod: Json) -> bool:
    return bool(hard_spreads(pod))


def _apart(pod: Json) -> bool:
    return bool(terms_of(pod, "podAntiAffinity"))
