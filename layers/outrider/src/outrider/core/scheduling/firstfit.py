"""First fit, as Karpenter packs: the baseline, and the net under every other strategy.

Decides for each pod in the queue's order: an existing node if one takes it, else the planned node
with the fewest pods that can still grow to hold it, else a new one in the heaviest pool that can,
with every type that fits left open (F58, F59). Price is looked at only to choose among domains,
among pools of one weight, and at the end among the types left. Equal pods come in runs: what holds
for one of them is not asked again for the next. Refuses to look ahead.
"""

from __future__ import annotations

from outrider.core.scheduling.demand import Ask
from outrider.core.scheduling.roster import Bin
from outrider.core.scheduling.run import Run


def place(run: Run, pods: list[int], ask: Ask) -> int:
    """Put each of *pods*, all of *ask*, on the first node that takes it; return how many found one.

    Where one finds none, those after it would not either.
    """
    done = 0
    exhausted = False  # no existing node takes a pod of the ask, and none will
    while done < len(pods):
        if not exhausted and run.place_on_node(pods[done], ask):
            done += 1
            continue
        exhausted = not ask.tied
        found = run.first(ask)
        if found is not None:
            run.join(pods[done], ask, *found)
            done += 1
            continue
        opened = _opened(run, pods[done], ask)
        if opened is None:
            break
        done += 1
        if run.is_repeatable(ask):
            done += _filled(run, opened, pods[done:], ask)
    return done


def _opened(run: Run, pod: int, ask: Ask) -> Bin | None:
    openings = run.openings(ask)
    if not openings:
        return None
    best = min(openings, key=lambda move: (move.order, _reversed(move.content.shelf.name)))
    return run.open(pod, ask, best)


def _filled(run: Run, opened: Bin, pods: list[int], ask: Ask) -> int:
    """Fill the bin just *opened*, the only one that takes *pods*, and as many more like it as they
    fill; return how many pods that takes."""
    done = 0
    while done < len(pods):
        move = run.into(ask, opened)
        if move is None:
            break
        run.join(pods[done], ask, opened, move)
        done += 1
    else:
        return done
    each = len(opened.members)
    whole = len(pods) - (len(pods) - done) % each
    run.repeat(opened, {ask.index: ()}, (pods[at : at + each] for at in range(done, whole, each)))
    run.roster.all_full(ask, opened.index)
    return whole


def _reversed(name: str) -> tuple[int, ...]:
    """Return a key that sorts names descending: Karpenter's order among equals (F6)."""
    return (*(-ord(letter) for letter in name), 1)
