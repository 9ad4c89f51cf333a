"""One step of the seed state machine: plan, launch, watch, verify, snapshot, warm, publish, retire.

    plan -> each: launch* -> pulled* -> stop* -> verify* -> snapshot -> completed* -> warm*
            -> publish -> retire -> cleanup

What a step returns joins what the machine carries; a step with a star is asked again until it says
`done`. Every step can be repeated: the builder is found by its client token, the snapshot by its
tag, the rest is conditional writes. `cleanup` runs after success and after failure; `sweep` runs
behind an execution that failed, timed out or was aborted, where no Catch may have run. All that an
execution makes carries its decision, so that it is found again.

Refuses to do anything itself: the steps are in `seedplan`, `seedbuild`, `seedpublish` and
`seedend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from outrider.core import stateversion
from outrider.flows import seedbuild, seedend, seedplan, seedpublish
from outrider.flows.ports import World

Answer = dict[str, Any]
Carried = Mapping[str, Any]

_STEPS: Mapping[str, Callable[[Carried, World], Answer]] = {
    "plan": seedplan.plan,
    "launch": seedbuild.launch,
    "pulled": seedbuild.pulled,
    "stop": seedbuild.stop,
    "verify": seedbuild.verify,
    "snapshot": seedbuild.snapshot,
    "completed": seedbuild.completed,
    "warm": seedpublish.warm,
    "publish": seedpublish.publish_seed,
    "retire": seedpublish.retire,
    "cleanup": seedend.cleanup,
    "sweep": seedend.sweep,
}


def step(event: Mapping[str, Any], world: World) -> Answer:
    """Run the step that *event* names on what the machine carries; return what changed."""
    stateversion.check(event.get("version"), f"the input of step {event['step']}")
    try:
        return _STEPS[str(event["step"])](event, world)
    finally:
        world.bus.flush()
