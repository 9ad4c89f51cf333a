"""Hunt for wrong plans: `python -m tests.support.hunt FIRST LAST` judges the plans of those seeds.

Prints every seed whose plan breaks a rule, shrunk to the fewest objects that still break one.
A wide search belongs here and not in pytest: tens of thousands of cases take minutes.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

from tests.support.expect import planned
from tests.support.feasible import violations
from tests.support.scenario import Scenario, scenario

STRATEGIES = ("first-fit", "cost")
Trouble = Callable[[Scenario], str]


def wrong(case: Scenario, strategy: str) -> str:
    """Return what is wrong with the plan of *case*, "" where nothing is."""
    try:
        answer = planned(
            *case.documents, catalog=case.catalog, strategy=strategy, **case.policy
        ).json
    except Exception:  # noqa: BLE001 (whatever it is, it is a finding)
        return traceback.format_exc().strip().splitlines()[-1]
    found = violations(case.documents, case.catalog, answer, **case.policy)
    return found[0] if found else ""


def shrunk(case: Scenario, trouble: Trouble) -> Scenario:
    """Return the smallest part of *case* that is still in *trouble*."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(case):
            try:
                still = trouble(candidate)
            except Exception:  # noqa: BLE001 (the judge trips over what is no cluster any more)
                still = ""
            if still:
                case, smaller = candidate, True
                break
    return case


def _smaller(case: Scenario) -> Iterator[Scenario]:
    for place in range(len(case.documents)):
        yield replace(case, documents=case.documents[:place] + case.documents[place + 1 :])
    goods = case.catalog["instanceTypes"]
    for place in range(len(goods)):
        if len(goods) > 1:
            yield replace(case, catalog={"instanceTypes": goods[:place] + goods[place + 1 :]})
    for place, kind in enumerate(goods):
        for sold in range(len(kind["offerings"])):
            if len(kind["offerings"]) > 1:
                copy = deepcopy(case.catalog)
                del copy["instanceTypes"][place]["offerings"][sold]
                yield replace(case, catalog=copy)
    for place, document in enumerate(case.documents):
        for path in _paths(document):
            copies = deepcopy(list(case.documents))
            _remove(copies[place], path)
            yield replace(case, documents=tuple(copies))


_KEPT = {"kind", "apiVersion", "metadata", "name", "containers", "nodeClassRef", "namespace"}


def _paths(item: Any, depth: int = 0) -> Iterator[tuple[Any, ...]]:
    if depth > 7:
        return
    if isinstance(item, dict):
        for key, value in item.items():
            if key in _KEPT and key != "metadata":
                continue
            if key not in {"metadata", "spec", "status"} or depth:
                yield (key,)
            yield from ((key, *rest) for rest in _paths(value, depth + 1))
    elif isinstance(item, list):
        for place, value in enumerate(item):
            yield (place,)
            yield from ((place, *rest) for rest in _paths(value, depth + 1))


def _remove(item: Any, path: tuple[Any, ...]) -> None:
    for step in path[:-1]:
        item = item[step]
    del item[path[-1]]


def main() -> int:
    """Judge the seeds of the command line; return how many plans were wrong."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    small = "--tiny" in sys.argv
    quick = "--quick" in sys.argv
    bad = 0
    for seed in range(first, last):
        case = scenario(seed, tiny=small)
        for strategy in STRATEGIES:
            found = wrong(case, strategy)
            if not found:
                continue
            bad += 1
            sys.stdout.write(f"{seed} {strategy}: {found}\n")
            if not quick:
                _show(case, strategy, found)
    return bad


def _show(case: Scenario, strategy: str, found: str) -> None:
    word = found.rsplit(maxsplit=1)[-1]

    def same(candidate: Scenario) -> str:
        now = wrong(candidate, strategy)
        return now if now and now.split()[-1] == word else ""

    least = shrunk(case, same)
    sys.stdout.write(f"  {wrong(least, strategy)} {least.policy}\n")
    for item in (*least.documents, *least.catalog["instanceTypes"]):
        sys.stdout.write(f"    {json.dumps(item)}\n")


if __name__ == "__main__":
    sys.exit(min(main(), 1))
