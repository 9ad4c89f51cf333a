"""CreateFleet requests and launch templates as files: a change of them is read as a diff.

`pytest --update-golden` writes them anew.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outrider.core.launch.fleet import FleetRequest, requests
from outrider.core.scheduling.result import Choice, Launch
from outrider.core.seeding import Seed, State
from outrider.core.taints import Taint
from tests.support.launches import ZONES, around, choices, launch, nodeclass, orders

GOLDEN = Path(__file__).parents[3] / "golden" / "fleet"
TRAINER = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml/trainer:v42"
SEED = Seed(
    "0f3a",
    "amd64",
    "Bottlerocket",
    {TRAINER: "sha256:1"},
    {TRAINER: 10**10},
    snapshot_id="snap-0123456789abcdef0",
    volume_gib=60,
    state=State.READY.value,
)
RESERVED = (Choice("p5.48xlarge", ZONES[0], "reserved", 0.0, "use1-az6", "cr-0123456789abcdef0"),)
OWN_PRICES = tuple(
    replace(one, stated=one.instance_type == "g5.xlarge")
    for one in choices("g6.xlarge", "g5.xlarge")
)

STORIES: dict[str, tuple[list[Launch], dict[str, Any], dict[str, Any]]] = {
    "spot-inference": (
        [launch("a"), launch("b")],
        {"tags": {"team": "ml"}, "kubelet": {"maxPods": 110}},
        {},
    ),
    "prices-of-our-own": (
        [launch("a", choices=OWN_PRICES)],
        {},
        {},
    ),
    "efa-training-gang": (
        [
            launch(
                f"w{place}",
                gang="default/train",
                choices=choices("p4d.24xlarge", capacity_type="on-demand", zones=ZONES[:1]),
                requests={"nvidia.com/gpu": 8, "vpc.amazonaws.com/efa": 4},
                max_pods={"p4d.24xlarge": 250},
                startup_taints=(Taint("cilium", "", "NoSchedule"),),
            )
            for place in range(2)
        ],
        {"instanceStorePolicy": "RAID0", "detailedMonitoring": True},
        {},
    ),
    "seeded-bottlerocket": (
        [launch("a")],
        {"alias": "bottlerocket@v1.46.0", "instanceStorePolicy": "RAID0"},
        {"seeds": (SEED,), "images": {"default/a": (TRAINER,)}},
    ),
    "reserved": (
        [launch("a", choices=RESERVED, max_pods={"p5.48xlarge": 100})],
        {"capacityReservationSelectorTerms": [{"id": "cr-0123456789abcdef0"}]},
        {},
    ),
}


def _readable(request: FleetRequest) -> dict[str, Any]:
    """Return the call and its templates, user data in clear."""
    call = request.to_json()
    for config in call["LaunchTemplateConfigs"]:
        specification = config["LaunchTemplateSpecification"]
        encoded = specification.pop("LaunchTemplateSpecificationUserData", "")
        specification["UserData"] = base64.b64decode(encoded).decode().splitlines()
    return {
        "CreateFleet": call,
        "CreateLaunchTemplate": {one.name: one.data for one in request.templates},
    }


@pytest.mark.parametrize("story", STORIES)
def test_requests_are_what_was_read(story: str, update_golden: bool) -> None:
    """The requests of each story are those that a person has read and kept."""
    launches, spec, changes = STORIES[story]
    made = requests(orders(*launches), around(nodeclass(**spec), **changes))
    assert made.refused == ()
    text = json.dumps([_readable(one) for one in made.requests], indent=2, sort_keys=True) + "\n"
    path = GOLDEN / f"{story}.json"
    if update_golden:
        path.write_text(text, "utf-8")
    assert path.read_text("utf-8") == text
