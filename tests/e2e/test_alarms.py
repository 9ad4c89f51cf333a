"""Every alarm of template.yaml fires once, for the reason that it is there for.

Nobody sets a state: each row breaks what its alarms watch (a market without capacity, a ledger that
is down, a Karpenter next door), waits on the clock, mends it, and sees the alarms go back. The rows
share one embedded cloud; the last test sees to it that no alarm is without a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from outrider.apis import labels
from outrider.local.demo.push import announce, put_image, reference
from tests.support.stack import stack
from tests.support.stage import PRECIOUS, Stage, karpenter_lease, pod, pool, staged

pytestmark = pytest.mark.e2e

MINUTE = 60.0
NOTHING_LEFT = {"insufficientCapacity": [{"instanceType": "*", "zone": "*", "capacityType": "*"}]}
LEDGER = ("GetItem", "BatchGetItem", "Query", "UpdateItem", "PutItem", "TransactWriteItems")
Act = Callable[[Stage], Any]


@dataclass(frozen=True)
class Row:
    """What breaks, the alarms that see it, how long that takes, and what mends it."""

    alarms: tuple[str, ...]
    breaks: Act
    within: float
    mends: Act
    over: float = 5 * MINUTE


def failing(stage: Stage, *calls: str) -> None:
    """Let calls fail from now on."""
    broken = {"code": "InternalServerError", "times": 100_000}
    stage.cloud.faults.set({"fail": dict.fromkeys(calls, broken)})


def ledger_down(stage: Stage) -> None:
    """Let DynamoDB answer nothing."""
    failing(stage, *(f"dynamodb:{name}" for name in LEDGER))


def healthy(stage: Stage) -> None:
    """End every fault."""
    stage.cloud.faults.set({})


def purged(stage: Stage) -> None:
    """End every fault, and empty the dead-letter queues as whoever was woken does."""
    healthy(stage)
    assert stage.cloud.stack is not None
    for url in stage.cloud.stack.outputs["DeadLetterQueueUrls"].split(","):
        stage.cloud.client("sqs").purge_queue(QueueUrl=url)


def serve(stage: Stage, *names: str) -> list[str]:
    """Run pods on a Spot node each; return the instances."""
    stage.apply(pool("spot", capacity=("spot",)), *(pod(name, "spot") for name in names))
    stage.expect_running(*names)
    return [str(machine["InstanceId"]) for machine in stage.machines()]


# --- what breaks ----------------------------------------------------------------------------------


def nobody_sells(stage: Stage) -> None:
    """Let six pods wait in a market without capacity."""
    stage.cloud.faults.set(NOTHING_LEFT)
    stage.apply(pool("dry"), *(pod(f"p{number}", "dry") for number in range(6)))


def no_schedules(stage: Stage, *, enabled: bool = False) -> None:
    """Disable, or enable, every schedule, as an operator would on the default bus."""
    events = stage.cloud.client("events")
    for rule in events.list_rules()["Rules"]:
        if "ScheduleExpression" in rule:
            change = events.enable_rule if enabled else events.disable_rule
            change(Name=rule["Name"])


def schedules(stage: Stage) -> None:
    """Enable every schedule again."""
    no_schedules(stage, enabled=True)


def everything_fails(stage: Stage) -> None:
    """Let a pod wait, a Spot warning come and an instance end while the ledger is down."""
    warned, ended = serve(stage, "warned", "ended")
    ledger_down(stage)
    stage.apply(pool("hinted"), pod("hinted", "hinted"))
    stage.cloud.reclaim.interrupt(warned, notice=3600.0)
    stage.cloud.client("ec2").terminate_instances(InstanceIds=[ended])


def join_that_fails(stage: Stage) -> None:
    """Let a node join while nobody can ask EC2 about it."""
    stage.cloud.faults.set({"joinDelaySeconds": 60})
    stage.apply(pool("joins"), pod("a", "joins"))
    stage.expect("a fleet", 60, lambda: stage.entries("createFleet"))
    failing(stage, "ec2:DescribeInstances")


def tick_that_fails(stage: Stage) -> None:
    """Let the catalogue's tick fail as often as Lambda tries."""
    failing(stage, "ec2:DescribeInstanceTypes", "ec2:DescribeSubnets")
    stage.tick("catalog")


def catalogue_grows_old(stage: Stage) -> None:
    """Let two hours pass without a look at EC2's catalogue."""
    no_schedules(stage)
    stage.cloud.run(7300)
    stage.tick("lifecycle")


def ec2_is_slow(stage: Stage) -> None:
    """Let CreateFleet take longer than the planning lease lasts."""
    known = stage.cloud.endpoint._operations["ec2:CreateFleet"]

    def slowly(wanted: dict[str, Any], call: Any) -> Any:
        stage.cloud.endpoint.serve("ec2:CreateFleet", known)
        stage.cloud.clock.sleep(50)
        return known(wanted, call)

    stage.cloud.endpoint.serve("ec2:CreateFleet", slowly)
    stage.apply(pool("slow"), pod("a", "slow"))


def pod_that_stays(stage: Stage) -> None:
    """Let a Spot node's pod be precious and have a finalizer that nobody removes in time."""
    stuck = pod("stuck", "late", annotations=PRECIOUS, terminationGracePeriodSeconds=30)
    stuck["metadata"]["finalizers"] = ["example.com/archive"]
    stage.apply(pool("late", capacity=("spot",)), stuck)
    stage.expect_running("stuck")
    (machine,) = stage.machines()
    stage.cloud.reclaim.interrupt(machine["InstanceId"])


def released(stage: Stage) -> None:
    """Remove the finalizer."""
    stage.patch(
        "pods",
        "stuck",
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/archive"]}},
        "default",
    )


def node_without_gpu(stage: Stage) -> None:
    """Let a node's device plugin never register, and be impatient."""
    stage.update_stack(OUTRIDER_INITIALIZATION_TIMEOUT_SECONDS="120")
    stage.cloud.faults.set({"neverInitialize": ["g5.xlarge", "g6.xlarge", "g6.2xlarge"]})
    stage.apply(pool("bare"), pod("a", "bare"))


def patient(stage: Stage) -> None:
    """End the faults and the impatience."""
    healthy(stage)
    stage.update_stack(OUTRIDER_INITIALIZATION_TIMEOUT_SECONDS="")


def snapshot_that_fails(stage: Stage) -> None:
    """Let an image be pushed that no snapshot can be made of."""
    layers = (3_000_000_000,)
    put_image(stage.cloud, "ml/broken", "v1", layers)
    stage.apply(pool("push"), pod("a", "push", image=reference("ml/broken", "v1")))
    stage.expect_running("a")
    failing(stage, "ec2:CreateSnapshot")
    announce(stage.cloud, "ml/broken", "v2", put_image(stage.cloud, "ml/broken", "v2", layers))


def karpenter_next_door(stage: Stage) -> None:
    """Let a Karpenter be live while a pod waits."""
    stage.apply(pool("next"), pod("a", "next"))
    for _ in range(6):
        stage.apply(karpenter_lease(stage))
        stage.cloud.run(20)


def brake_that_holds(stage: Stage) -> None:
    """Let a NodePool allow no launch a minute, and a pod wait for it."""
    stage.apply(pool("held", annotations={labels.MAX_LAUNCHES: "0"}), pod("a", "held"))


def brake_released(stage: Stage) -> None:
    """Take the brake off, as its Event says; the pod gets its node."""
    assert labels.MAX_LAUNCHES in stage.told("LaunchesHeldBack", "held")[0]["message"]
    annotations = {labels.MAX_LAUNCHES: None}
    stage.patch("nodepools.karpenter.sh", "held", {"metadata": {"annotations": annotations}})
    stage.expect_running("a")


DEAD_LETTERS = (
    "HintDeadLetterAlarm",
    "InterruptionDeadLetterAlarm",
    "SignalDeadLetterAlarm",
)
ROWS = (
    Row(("ReconcileAlarm",), no_schedules, 7 * MINUTE, schedules, 7 * MINUTE),
    Row(DEAD_LETTERS, everything_fails, 12 * MINUTE, purged),
    Row(("JoinDeadLetterAlarm",), join_that_fails, 13 * MINUTE, purged),
    Row(("EventDeadLetterAlarm",), tick_that_fails, 5 * MINUTE, purged),
    Row(("CatalogAgeAlarm",), catalogue_grows_old, 3 * MINUTE, schedules, 20 * MINUTE),
    Row(("LeaseAlarm",), ec2_is_slow, 4 * MINUTE, healthy),
    Row(("DrainDeadlineAlarm",), pod_that_stays, 5 * MINUTE, released),
    Row(("NotInitializedAlarm",), node_without_gpu, 6 * MINUTE, patient),
    Row(("HeldBackAlarm",), brake_that_holds, 3 * MINUTE, brake_released),
    Row(("SeedFailedAlarm",), snapshot_that_fails, 40 * MINUTE, healthy),
    Row(("BesideKarpenterAlarm",), karpenter_next_door, 2 * MINUTE, healthy),
    # What empties the market comes last: its marks would be in the way of the others.
    Row(("LaunchFailureAlarm", "PendingPodAlarm"), nobody_sells, 14 * MINUTE, healthy, 25 * MINUTE),
)


@pytest.fixture(scope="module")
def watched() -> Iterator[Stage]:
    """Give the cloud that the rows share, its alarms settled."""
    with staged() as stage:
        stage.cloud.run(6 * MINUTE)
        yield stage


@pytest.mark.parametrize("row", ROWS, ids=["+".join(row.alarms) for row in ROWS])
def test_an_alarm_fires_for_its_reason_and_ends_with_it(watched: Stage, row: Row) -> None:
    """No ALARM, then ALARM because of what broke, then none again when it is mended."""
    watched.begin()
    fired: set[str] = set()

    def firing() -> set[str]:
        now = {name for name in row.alarms if watched.alarm(name) == "ALARM"}
        fired.update(now)
        return now

    assert not firing()
    row.breaks(watched)
    named = " and ".join(row.alarms)
    watched.expect(f"{named}: ALARM", row.within, lambda: firing() | fired == set(row.alarms))
    row.mends(watched)
    watched.expect(f"{named}: over", row.over, lambda: not firing())
    watched.clear()


def test_no_alarm_is_without_its_row() -> None:
    """What template.yaml declares is what is tried here."""
    tried = [name for row in ROWS for name in row.alarms]
    assert sorted(tried) == sorted(stack().of("AWS::CloudWatch::Alarm"))
