"""Seed builds that are broken on purpose, in every state and every way, and what is left of them.

One embedded cloud runs the deployed state machine with the real flows. A build is begun by an image
push; when it comes to the state in question it is broken there: its step fails, fails for good,
runs into its time limit after its work was done, its sandbox is killed after its work was done, or
the execution is aborted while the step runs (which, as on AWS, does not stop the function: its work
is done after the abort). What is left a little later is counted: builders, volumes, snapshots that
no row names, fast restores of those, locks.

Everything that would tidy up later by the clock (ticks, the sweep of the lifecycle) is switched
off, so only the machine's own cleanup and the rule behind ended executions can have done it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from outrider.apis import labels
from outrider.flows import seed
from outrider.local.demo.push import announce, put_image, reference
from outrider.local.sandbox import Killed, TimedOut
from tests.support.stage import Stage, pod, pool

REPOSITORY = "ml/broken"
LAYERS = (3_000_000_000, 2_000_000_000)
KEPT_RULES = ("ImagePush", "SeedEnded")
AFTERWARDS = 120.0  # seconds of the clock for the rule behind an ended execution
LONGEST = 4 * 3600.0

Step = Callable[[Mapping[str, Any], Any], dict[str, Any]]


class Fault(StrEnum):
    """One way to break a state."""

    FAILS = "fails once"
    FOR_GOOD = "fails for good"
    TIMES_OUT = "times out once"
    KILLED = "killed once"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class State:
    """One state of the machine: its name, and the step that is asked in it or just before it."""

    name: str
    step: str
    waits: bool = False
    after_failure: bool = False


TASKS = (
    State("Plan", "plan"),
    State("Launch builder", "launch"),
    State("Look at pulls", "pulled"),
    State("Stop builder", "stop"),
    State("Verify", "verify"),
    State("Snapshot", "snapshot"),
    State("Look at snapshot", "completed"),
    State("Warm up", "warm"),
    State("Publish", "publish"),
    State("Retire", "retire"),
    State("Clean up", "cleanup"),
    State("Clean up after failure", "cleanup", after_failure=True),
)
WAITS = (
    State("Let the push settle", "", waits=True),
    State("Queueing", "launch", waits=True),
    State("Pulling", "launch", waits=True),
    State("Stopping", "stop", waits=True),
    State("Listening", "verify", waits=True),
    State("Copying", "snapshot", waits=True),
    State("Warming", "warm", waits=True),
)
# The waits that a build does not come to by itself, and what the step says that it comes there.
DETOURS: Mapping[str, Mapping[str, Any]] = {
    "Queueing": {"joined": False, "done": False, "wait": 60},
    "Stopping": {"done": False, "wait": 5},
    "Listening": {"done": False, "wait": 15},
}


@dataclass(frozen=True, slots=True)
class Remains:
    """What a broken build came to, and what was left of it."""

    status: str
    published: bool
    builders: int
    volumes: int
    snapshots: int
    restores: int
    locks: int
    hit: bool

    @property
    def clean(self) -> bool:
        """Return whether nothing is left, and the fault did happen."""
        left = self.builders + self.volumes + self.snapshots + self.restores + self.locks
        return self.hit and not left


@dataclass(slots=True)
class Breaker:
    """Stands in for `flows.seed.step`: breaks one state once, lets everything else pass."""

    stage: Stage
    original: Step
    state: State | None = None
    fault: Fault = Fault.FAILS
    hit: bool = False
    arn: str = ""

    def __call__(self, event: Mapping[str, Any], world: Any) -> dict[str, Any]:
        """Do a step as it is, or as the fault has it."""
        step = str(event["step"])
        state = self.state
        if step == "plan":
            self.arn = str(event.get("execution", ""))
        if state is None or step == "sweep":
            return self.original(event, world)
        if state.after_failure and step == "publish":
            raise ValueError("a failure for the cleanup to clean up after")
        if step != state.step or (self.hit and self.fault is not Fault.FOR_GOOD):
            return self.original(event, world)
        self.hit = True
        if state.waits:
            return self._abort_in_the_wait(event, world, state)
        return self._broken(event, world)

    def _broken(self, event: Mapping[str, Any], world: Any) -> dict[str, Any]:
        if self.fault is Fault.FOR_GOOD:
            raise ValueError("broken for good")
        if self.fault is Fault.ABORTED:
            self.abort()
            return self.original(event, world)
        done = self.original(event, world)
        if self.fault is Fault.FAILS:
            raise ValueError("broken once")
        if self.fault is Fault.KILLED:
            raise Killed("after its work")
        if self.fault is Fault.TIMES_OUT:
            raise TimedOut("after its work")
        return done

    def _abort_in_the_wait(
        self, event: Mapping[str, Any], world: Any, state: State
    ) -> dict[str, Any]:
        self.stage.cloud.clock.call_later(1.0, self.abort)
        return dict(DETOURS.get(state.name) or self.original(event, world))

    def abort(self) -> None:
        """Stop the execution, as a person does."""
        self.hit = True
        self.stage.cloud.client("stepfunctions").stop_execution(executionArn=self.arn)


@dataclass(slots=True)
class Workbench:
    """One cloud, one pod that runs the image, and builds to break."""

    stage: Stage
    breaker: Breaker
    number: int = 0

    def broken(self, state: State, fault: Fault) -> Remains:
        """Begin a build, break it in *state*, and return what is left of it."""
        self.number += 1
        cloud, breaker = self.stage.cloud, self.breaker
        self.stage.begin()
        known = len(self._executions())
        breaker.state, breaker.fault, breaker.hit, breaker.arn = state, fault, False, ""
        tag = f"v{self.number}"
        digest = put_image(cloud, REPOSITORY, tag, LAYERS)
        announce(cloud, REPOSITORY, tag, digest)
        if state.name == "Let the push settle":
            cloud.run(5)
            breaker.arn = self._running()
            breaker.abort()
        promise = f"an end of {state.name}, {fault}"
        self.stage.expect(promise, LONGEST, lambda: self._ended(known), every=5)
        cloud.run(AFTERWARDS)
        breaker.state = None
        return self._remains()

    def _executions(self) -> list[Any]:
        from moto.stepfunctions.parser.models import stepfunctions_parser_backends

        machines = stepfunctions_parser_backends["123456789012"]["us-east-1"].state_machines
        return [
            execution
            for machine in machines
            if "Seed" in machine.name
            for execution in machine.executions
        ]

    def _running(self) -> str:
        return next(
            str(one.execution_arn) for one in self._executions() if str(one.status) == "RUNNING"
        )

    def _ended(self, known: int) -> bool:
        found = self._executions()
        return len(found) > known and all(str(one.status) != "RUNNING" for one in found)

    def _remains(self) -> Remains:
        ec2 = self.stage.cloud.client("ec2")
        tagged = [{"Name": "tag-key", "Values": [labels.SEED]}]
        builders = [
            instance
            for group in ec2.describe_instances(Filters=tagged)["Reservations"]
            for instance in group["Instances"]
            if instance["State"]["Name"] not in {"terminated", "shutting-down"}
        ]
        rows = self.stage.cloud.client("dynamodb").scan(TableName=self._table())["Items"]
        named = {row["snapshot"]["S"] for row in rows if row["pk"]["S"] == "seed"}
        loose = [
            one["SnapshotId"]
            for one in ec2.describe_snapshots(OwnerIds=["self"], Filters=tagged)["Snapshots"]
            if one["SnapshotId"] not in named
        ]
        fast = {
            one["SnapshotId"]
            for one in ec2.describe_fast_snapshot_restores()["FastSnapshotRestores"]
        }
        ready = {
            row["snapshot"]["S"]
            for row in rows
            if row["pk"]["S"] == "seed" and row["state"]["S"] == "READY"
        }
        last = self._executions()[-1]
        return Remains(
            status=str(last.status),
            published=bool(self.stage.decided("SeedPublished")),
            builders=len(builders),
            volumes=len(ec2.describe_volumes(Filters=tagged)["Volumes"]),
            snapshots=len(loose),
            restores=len(fast - ready),
            locks=sum(row["pk"]["S"] == "lock" for row in rows),
            hit=self.breaker.hit,
        )

    def _table(self) -> str:
        assert self.stage.cloud.stack is not None
        return self.stage.cloud.stack.outputs["LedgerTable"]


@contextmanager
def workbench(stage: Stage) -> Iterator[Workbench]:
    """Give a workbench on *stage*, which should be warm-up `fast-restore` to have every state."""
    cloud = stage.cloud
    put_image(cloud, REPOSITORY, "v0", LAYERS)
    stage.apply(pool("seed"), pod("a", "seed", image=reference(REPOSITORY, "v0")))
    stage.expect_running("a")
    events = cloud.client("events")
    for rule in events.list_rules()["Rules"]:
        if not any(name in rule["Name"] for name in KEPT_RULES):
            events.disable_rule(Name=rule["Name"])
    original = seed.step
    breaker = Breaker(stage, original)
    seed.step = breaker
    try:
        yield Workbench(stage, breaker)
    finally:
        seed.step = original


def describe(remains: Remains) -> str:
    """Return what became of a build in some words."""
    left = {
        name: count
        for name in ("builders", "volumes", "snapshots", "restores", "locks")
        if (count := getattr(remains, name))
    }
    if not remains.hit:
        return "not reached"
    told = "clean" if not left else json.dumps(left)
    return f"{told}, {'published' if remains.published else remains.status.lower()}"
