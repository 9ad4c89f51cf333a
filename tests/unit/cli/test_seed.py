"""`outrider seed`: what the four verbs print, as tables and as JSON, and what they leave alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider.cli import main
from outrider.cli import seed as verbs
from outrider.core.seeding import State
from outrider.flows import seed
from tests.support.market import MarketWorld
from tests.support.workshop import TRAINER, Workshop, running_trainer


class Account:
    """An account behind the command."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.made: MarketWorld = running_trainer()
        self.shop = Workshop(self.made)
        self.shop.install()
        self._capsys = capsys

    def say(self, *words: str) -> str:
        """Run the command; return what it prints."""
        with pytest.raises(SystemExit) as ended:
            main.main(["seed", *words])
        assert not ended.value.code
        return self._capsys.readouterr().out

    def told(self, *words: str) -> Any:
        """Run the command with JSON output."""
        return json.loads(self.say(*words, "-o", "json"))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Account:
    """Return an account in which a pod runs the trainer, and nothing is seeded."""
    found = Account(capsys)
    monkeypatch.setattr(verbs, "world", lambda _place: found.made.world)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return found


def test_plan_shows_four_ways_side_by_side(account: Account) -> None:
    """Plain pull, parallel pull, a peer and the seed, in seconds, with the cost."""
    found = account.told("plan")
    (one,) = found["seeds"]
    assert one["seconds"] == {
        "plainPull": 333.8,
        "parallelPull": 166.9,
        "peer": 238.8,
        "seed": 34.9,
    }
    assert one["dollars"]["storageAMonth"] == pytest.approx(0.95, abs=0.01)
    assert found["summary"]["toBuild"] == 1
    table = account.say("plan")
    for word in ("plain pull", "parallel", "peer", "334 s", "35 s", "ml/trainer:v42", "build"):
        assert word in table


def test_plan_only_looks(account: Account) -> None:
    """Whatever is found, nothing is written, launched or deleted."""
    account.say("plan")
    methods = {method for _, method, _, _ in account.made.recorder.calls}
    assert methods <= {"state", "machines", "seeds"}
    assert account.made.ledger.kept == {}


def test_plan_says_what_is_left_out(account: Account) -> None:
    """An image that is not there is named, with the registry's words."""
    account.shop.images.clear()
    table = account.say("plan")
    assert "ml/trainer:v42" in table
    assert "no image" in table
    assert "0 to build, 0 ready, 1 images left out" in table


def test_plan_of_other_images_is_empty(account: Account) -> None:
    """Named images narrow the plan."""
    assert account.told("plan", "ml/other")["seeds"] == []
    assert len(account.told("plan", "ml/trainer")["seeds"]) == 1


def test_run_starts_the_machine(account: Account) -> None:
    """With the images that it was given; a dry run starts nothing."""
    assert account.told("run", "ml/trainer", "--dry-run")["summary"]["toBuild"] == 1
    assert "to build" in account.say("run", "--dry-run")
    assert account.made.workflows.started == {}
    account.say("run", TRAINER)
    ((name, payload),) = account.made.workflows.started.items()
    assert name.startswith("run-20260302T140000-")
    assert payload == {"reason": "outrider seed run", "images": [TRAINER]}


def _ready(account: Account) -> None:
    """Build the trainer's seed."""
    world = account.made.world
    (carried,) = seed.step({"step": "plan"}, world)["builds"]
    for step in ("launch", "pulled", "stop", "verify", "snapshot", "completed", "publish"):
        carried = {**carried, **seed.step({**carried, "step": step}, world)}
        for machine in account.shop.machines.values():
            machine["state"] = "stopped"
        account.shop.says(TRAINER)
    seed.step({**carried, "step": "cleanup"}, world)


def test_list_shows_the_ledger(account: Account) -> None:
    """State, snapshot, images, and when a pod last ran one."""
    assert "no seeds" in account.say("list")
    _ready(account)
    (one,) = account.told("list")["seeds"]
    assert one["state"] == State.READY
    assert list(one["images"]) == [TRAINER]
    assert one["used"] == "2026-03-02T14:00:00Z"
    assert "READY" in account.say("list")


def test_gc_says_why(account: Account) -> None:
    """A dry run names what would go and why, and leaves it; without it, it goes."""
    assert "nothing to remove" in account.say("gc")
    _ready(account)
    account.made.pass_time(31 * 24 * 3600)
    told = account.told("gc", "--dry-run")
    assert told["dryRun"] is True
    assert "31 days" in told["removed"][0]["reason"]
    (row,) = account.made.ledger.kept.values()
    assert row.state == State.READY
    assert "Would go" in account.say("gc", "--dry-run")
    assert "Gone" in account.say("gc")
    assert account.made.bus.of("SeedRetired")
    (row,) = account.made.ledger.kept.values()
    assert row.state == State.RETIRED
