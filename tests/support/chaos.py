"""A day of everything that goes wrong, by seed: what is done to a cluster, and what is counted.

`run` brings up the embedded cloud with nodes full of pods and lets hours of it pass in virtual time
while EC2 takes instances back, one by one and in waves, recommends, schedules maintenance, lets
some die without a word and is out of half of its offerings; while events come three times, out of
order, foreign and garbled; while calls are throttled and functions die in the middle. Then the
storm ends, the cluster gets time to settle, and the `Tally` says what was promised and what came.

Whatever is drawn is drawn from the seed, on discrete time: the same seed is the same day. Judged
from outside only: the timeline, the API servers' objects and the decisions that were published.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from outrider.apis import labels
from outrider.local.market import ZONES, offered
from outrider.local.timeline import Entry
from tests.support.stage import PRECIOUS, Stage, budget, deployment, pool, staged

STORY = "chaos"
TYPES = ("g4dn.12xlarge", "g5.12xlarge", "g5.24xlarge", "g6.12xlarge", "g6.24xlarge")
PODS_A_NODE = 4
APPS = 50  # at most: a large cluster has larger ones, not more of them
HOUR = 3600.0
NOTICE = 120.0
MARGIN = 10.0
SLACK = 2.5  # a Round looks ahead by 1.5 s, and the API writes whole seconds
GRACES = (2, 30, 30, 60, 100, 300)
KILLED = ("interrupt", "drain", "provision", "lifecycle")
LAST_CALL = 40
THROTTLED = (
    "ec2:CreateFleet",
    "ec2:DescribeInstances",
    "ec2:TerminateInstances",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
    "states:StartExecution",
    "events:PutEvents",
)
TICK = '"detail-type": "Tick"'  # the next minute brings another: nothing is lost with one
WITHOUT_SIGTERM = frozenset({"stopped with its instance", "killed"})


@dataclass(frozen=True)
class Weather:
    """How large the cluster is, how long the storm lasts, and how often each thing happens.

    Rates are per node and hour.
    """

    nodes: int = 500
    hours: float = 24.0
    seed: int = 1
    interruptions: float = 0.04
    recommendations: float = 0.02
    deaths: float = 0.002
    maintenance: float = 0.002
    foreign: float = 0.1
    garbled: float = 0.01
    kills_an_hour: float = 6.0
    throttles_an_hour: float = 6.0
    waves: int = 3
    wave_share: float = 0.05
    shortage_hours: float = 2.0
    settling_minutes: float = 20.0

    @property
    def replicas(self) -> int:
        """Return how many pods each application has."""
        return max(PODS_A_NODE, self.nodes * PODS_A_NODE // APPS)

    @property
    def apps(self) -> int:
        """Return how many applications there are."""
        return self.nodes * PODS_A_NODE // self.replicas

    @property
    def pods(self) -> int:
        """Return how many pods are to run."""
        return self.apps * self.replicas


@dataclass
class Tally:
    """What was done, and what came of it."""

    done: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    wanted: int = 0
    running: int = 0
    waiting_with_reason: int = 0
    lost: list[str] = field(default_factory=list)
    unowned: list[str] = field(default_factory=list)
    without_sigterm: list[str] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    forced_early: list[str] = field(default_factory=list)
    forced: int = 0
    told_twice: list[str] = field(default_factory=list)
    repeated: int = 0
    never_told: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    ticks_given_up: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def broken(self) -> dict[str, Any]:
        """Return the promises that were not kept."""
        found = {
            "pods that neither run nor have a stated reason": self.lost,
            "instances, NodeClaims or Nodes that nobody owns": self.unowned,
            "pods killed without SIGTERM though their grace fitted": self.without_sigterm,
            "pods forced before a deadline asked for it": self.forced_early,
            "messages published twice": self.told_twice,
            "evictions that were never published": self.never_told,
            "messages given up on": self.given_up,
            "functions that failed by themselves": sorted(
                said for said in self.failures if "Throttl" not in said and "LimitEx" not in said
            ),
        }
        return {what: which for what, which in found.items() if which}

    def lines(self) -> Iterator[str]:
        """Yield the tally as text."""
        yield "what was done"
        for what, count in sorted(self.done.items()):
            yield f"  {what:52} {count:8,}"
        yield "how pods ended"
        for what, count in sorted(self.ends.items()):
            yield f"  {what:52} {count:8,}"
        yield "what was promised"
        yield f"  {'pods wanted':52} {self.wanted:8,}"
        yield f"  {'  running':52} {self.running:8,}"
        yield f"  {'  waiting, with a stated reason':52} {self.waiting_with_reason:8,}"
        yield f"  {'  neither':52} {len(self.lost):8,}"
        yield f"  {'unowned instances, NodeClaims, Nodes':52} {len(self.unowned):8,}"
        silent = len(self.without_sigterm)
        yield f"  {'killed without SIGTERM though its grace fitted':52} {silent:8,}"
        for what, count in sorted(self.excused.items()):
            yield f"  {'  excused: ' + what:52} {count:8,}"
        yield f"  {'forced, at their last safe start or later':52} {self.forced:8,}"
        yield f"  {'forced before a deadline asked for it':52} {len(self.forced_early):8,}"
        yield f"  {'messages published twice':52} {len(self.told_twice):8,}"
        yield f"  {'  repeated under the same id':52} {self.repeated:8,}"
        yield f"  {'evictions never published':52} {len(self.never_told):8,}"
        yield f"  {'messages given up on':52} {len(self.given_up):8,}"
        yield f"  {'  ticks among the dead letters':52} {self.ticks_given_up:8,}"
        for what, count in sorted(self.failures.items()):
            yield f"  {('failed: ' + what)[:52]:52} {count:8,}"


def run(weather: Weather, said: Callable[[str], None] = lambda _text: None) -> Tally:
    """Let one day of *weather* pass and return its tally; *said* hears of the progress."""
    with staged(weather.seed, Mode="provision") as stage:
        storm = Storm(stage, weather)
        storm.fill()
        said(f"{weather.nodes} nodes with {weather.pods} pods are up")
        with storm.watched():
            storm.begin()
            step = weather.hours * HOUR / 24
            for part in range(24):
                stage.cloud.run(step)
                said(f"{(part + 1) * step / HOUR:5.1f} h  {dict(storm.tally.done)}")
            storm.end()
            stage.cloud.run(weather.settling_minutes * 60)
        return storm.judge()


class Storm:
    """What happens to one cluster, and what is seen of it."""

    def __init__(self, stage: Stage, weather: Weather) -> None:
        self.stage = stage
        self.cloud = stage.cloud
        self.weather = weather
        self.tally = Tally()
        self.dice = random.Random(weather.seed)
        self.deadlines: dict[str, float] = {}  # instance -> when it ends
        self._blowing = False
        self._faults: dict[str, Any] = {}
        self._grace: dict[str, int] = {}
        self._evicted: Counter[str] = Counter()
        self._told: dict[tuple[str, str], list[str]] = {}  # what -> the ids of its messages
        self._bound: dict[str, float] = {}
        self._node_of: dict[str, str] = {}
        self._instances: dict[str, str] = {}  # node -> instance

    # --- before -----------------------------------------------------------------------------------

    def fill(self) -> None:
        """Let every pod of the day run."""
        capacity = ("spot", "on-demand")
        self.stage.apply(pool(STORY, types=TYPES, capacity=capacity), *self._workloads())
        wanted = self.weather.pods
        self.stage.expect(
            f"{wanted} pods run", 3600, lambda: self.stage.running() >= wanted, every=30
        )

    def _workloads(self) -> Iterator[dict[str, Any]]:
        for number in range(self.weather.apps):
            name = f"app-{number:03}"
            grace = GRACES[number % len(GRACES)]
            self._grace[name] = grace
            annotations = PRECIOUS if number % 7 == 3 else {}
            yield deployment(
                name,
                STORY,
                self.weather.replicas,
                annotations=annotations,
                terminationGracePeriodSeconds=grace,
            )
            if number % 3 == 0:
                yield budget(name, maxUnavailable=0 if number % 9 == 0 else "20%")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Listen to the timeline and to what is published."""
        for entry in self.cloud.timeline.entries():
            self._seen(entry)
        self.tally = Tally()
        self._evicted.clear()
        self.cloud.timeline.listen(self._seen)
        self.cloud.router.listeners.append(self._published)
        self.stage.begin()
        yield

    # --- the storm --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Let everything begin to go wrong."""
        self._blowing = True
        weather = self.weather
        self._change(duplicateEvents=3, reorderEvents=True)
        self._shortage()
        for rate, happens in (
            (weather.interruptions * weather.nodes, self._interrupt),
            (weather.recommendations * weather.nodes, self._recommend),
            (weather.deaths * weather.nodes, self._die),
            (weather.maintenance * weather.nodes, self._maintain),
            (weather.foreign * weather.nodes, self._warn_another),
            (weather.garbled * weather.nodes, self._garble),
            (weather.kills_an_hour, self._kill),
            (weather.throttles_an_hour, self._throttle),
        ):
            self._again(rate, happens)
        for wave in range(weather.waves):
            at = (wave + 0.5) / weather.waves * weather.hours * HOUR
            self.cloud.clock.call_later(at, self._wave)

    def end(self) -> None:
        """Let nothing more go wrong; what is out of stock stays so."""
        self._blowing = False
        scarce = self._faults.get("insufficientCapacity", [])
        self.cloud.faults.set({"insufficientCapacity": scarce})

    def _again(self, an_hour: float, happens: Callable[[], None]) -> None:
        """Let something happen *an_hour* times an hour, at moments that nobody can foresee."""
        if an_hour <= 0:
            return

        def now() -> None:
            if self._blowing:
                happens()
                self._again(an_hour, happens)

        self.cloud.clock.call_later(self.dice.expovariate(an_hour / HOUR), now)

    def _change(self, **faults: Any) -> None:
        self._faults |= faults
        self.cloud.faults.set(self._faults)

    def _shortage(self) -> None:
        """Let another half of the offerings be out of stock."""
        if not self._blowing:
            return
        offerings = [
            {"instanceType": kind, "zone": zone, "capacityType": capacity}
            for kind in TYPES
            for zone in sorted(ZONES)
            for capacity in ("spot", "on-demand")
            if offered(kind, zone)
        ]
        scarce = self.dice.sample(offerings, len(offerings) // 2)
        self._change(insufficientCapacity=scarce)
        self.tally.done["shortages of half the offerings"] += 1
        self.cloud.clock.call_later(self.weather.shortage_hours * HOUR, self._shortage)

    def _victims(self) -> list[str]:
        """Return the instances that run nodes and are not on their way out."""
        found = (
            claim["status"].get("providerID", "").rpartition("/")[2]
            for claim in self.stage.claims()
        )
        return sorted(one for one in found if one and one not in self.deadlines)

    def _victim(self) -> str | None:
        victims = self._victims()
        return self.dice.choice(victims) if victims else None

    def _interrupt(self) -> None:
        if victim := self._victim():
            self._take(victim)

    def _take(self, victim: str) -> None:
        with suppress(LookupError):
            self.cloud.reclaim.interrupt(victim)
            self.deadlines[victim] = self.cloud.timeline.at() + NOTICE
            self.tally.done["Spot interruptions"] += 1

    def _wave(self) -> None:
        """Take a share of all nodes in one second."""
        victims = self._victims()
        count = max(1, round(len(victims) * self.weather.wave_share))
        for victim in self.dice.sample(victims, min(count, len(victims))):
            self._take(victim)
        self.tally.done["waves of interruptions"] += 1

    def _recommend(self) -> None:
        if victim := self._victim():
            self.cloud.reclaim.recommend(victim)
            self.tally.done["rebalance recommendations"] += 1

    def _die(self) -> None:
        victim = self._victim()
        instance = self.cloud.instances.find(victim) if victim else None
        if instance is not None and victim:
            self.deadlines[victim] = self.cloud.timeline.at()
            self.cloud.instances.end(instance, why="died without a word")
            self.tally.done["instances that died without a word"] += 1

    def _maintain(self) -> None:
        if victim := self._victim():
            starts = self.cloud.clock.now() + timedelta(hours=self.dice.uniform(0.5, 4))
            self._put(
                "aws.health",
                "AWS Health Event",
                {
                    "service": "EC2",
                    "eventTypeCategory": "scheduledChange",
                    "eventTypeCode": "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
                    "communicationId": f"{self.dice.getrandbits(64):x}",
                    "statusCode": "upcoming",
                    "startTime": starts.strftime("%a, %d %b %Y %H:%M:%S GMT"),
                    "affectedEntities": [{"entityValue": victim}],
                },
            )
            self.deadlines[victim] = (
                self.cloud.timeline.at() + (starts - self.cloud.clock.now()).total_seconds()
            )
            self.tally.done["scheduled changes"] += 1

    def _warn_another(self) -> None:
        self._put(
            "aws.ec2",
            "EC2 Spot Instance Interruption Warning",
            {"instance-id": f"i-{self.dice.getrandbits(68):017x}", "instance-action": "terminate"},
        )
        self.tally.done["warnings for other clusters' instances"] += 1

    def _garble(self) -> None:
        detail = self.dice.choice(
            (
                {},
                {"instance-id": "", "state": ""},
                {"instance-id": "i-0123456789abcdef0", "state": "stop"},
                {"instance-id": ["i-1"], "instance-action": 7},
            )
        )
        kind = self.dice.choice(
            ("EC2 Spot Instance Interruption Warning", "EC2 Instance State-change Notification")
        )
        self._put("aws.ec2", kind, detail)
        self.tally.done["garbled events"] += 1

    def _put(self, source: str, detail_type: str, detail: dict[str, Any]) -> None:
        self.cloud.router.put(self.cloud.router.event(source, detail_type, detail))

    def _kill(self) -> None:
        function = self.dice.choice(KILLED)
        self._change(killAtCall={"function": function, "call": self.dice.randint(1, LAST_CALL)})
        self.tally.done["functions marked to die in the middle"] += 1

    def _throttle(self) -> None:
        chosen = self.dice.sample(THROTTLED, 2)
        self._change(throttle={name: self.dice.randint(1, 4) for name in chosen})
        self.tally.done["throttled operations"] += len(chosen)

    # --- what is seen -----------------------------------------------------------------------------

    def _seen(self, entry: Entry) -> None:
        kind = entry["kind"]
        if kind == "podBound":
            self._bound[entry["pod"]] = entry["at"]
            self._node_of[entry["pod"]] = entry["node"]
        elif kind == "nodeJoined":
            self._instances[entry["node"]] = entry["id"]
        elif kind == "evict":
            self._asked(entry)
        elif kind == "podGone":
            self._ended(entry)
        elif kind == "fault" and "killed" in entry:
            self.tally.done["functions that died in the middle"] += 1

    def _asked(self, entry: Entry) -> None:
        """Judge one eviction: by force only when a deadline leaves no more time."""
        pod = entry["pod"]
        if "outrider" not in entry["by"]:
            return
        self._evicted[pod] += 1
        if entry["how"] == "eviction":
            return
        self.tally.forced += 1
        instance = self._instances.get(self._node_of.get(pod, ""), "")
        last = self.deadlines.get(instance, float("inf")) - self._grace_of(pod) - MARGIN
        if entry["at"] < last - SLACK:
            self.tally.forced_early.append(f"{pod} on {instance} at {entry['at']}, not {last:.1f}")

    def _ended(self, entry: Entry) -> None:
        """Judge how one pod ended: with SIGTERM, if there was any time for that."""
        pod, how = entry["pod"], entry["how"]
        if not pod.startswith("default/"):
            return
        self.tally.ends[how] += 1
        if how not in WITHOUT_SIGTERM:
            return
        instance = self._instances.get(entry.get("node") or "", "")
        deadline = self.deadlines.get(instance)
        if how == "killed" and self._grace_of(pod) <= 2:
            self.tally.excused["its own grace is that short"] += 1
        elif deadline is None:
            self.tally.without_sigterm.append(f"{pod} on {instance} at {entry['at']}: {how}")
        elif deadline - self._bound.get(pod, 0.0) < MARGIN:
            self.tally.excused["bound when the node was as good as gone"] += 1
        elif instance in self._dead():
            self.tally.excused["its instance died without a word"] += 1
        else:
            self.tally.without_sigterm.append(f"{pod} on {instance} at {entry['at']}: {how}")

    def _dead(self) -> set[str]:
        return {
            entry["instance"]
            for entry in self.cloud.timeline.entries()
            if entry["kind"] == "terminate" and entry["why"] == "died without a word"
        }

    def _grace_of(self, pod: str) -> int:
        return self._grace.get(pod.partition("/")[2][:7], 30)

    def _published(self, bus: str, event: Mapping[str, Any]) -> None:
        if not bus.startswith("outrider-"):
            return
        detail = event["detail"]
        if event["detail-type"] == "PodEvicted":
            self._told.setdefault(("PodEvicted", detail["pod"]), []).append(detail["id"])
        elif event["detail-type"] in {"ReplacementLaunched", "NodeTerminated", "NodeDrained"}:
            key = f"{detail.get('instanceId')}/{detail['decision']}"
            self._told.setdefault((event["detail-type"], key), []).append(detail["id"])

    # --- afterwards -------------------------------------------------------------------------------

    def judge(self) -> Tally:
        """Return the tally, what is left in the cluster counted."""
        tally = self.tally
        self._judge_pods()
        self._judge_instances()
        # A function that dies between sending and striking off repeats itself, under the same id.
        tally.repeated = sum(len(ids) - len(set(ids)) for ids in self._told.values())
        tally.told_twice = sorted(
            f"{kind} {key}" for (kind, key), ids in self._told.items() if len(set(ids)) > 1
        )
        told = {key for kind, key in self._told if kind == "PodEvicted"}
        tally.never_told = sorted(pod for pod in self._evicted if pod not in told)
        for body in self._dead_letters():
            if TICK in body:
                tally.ticks_given_up += 1
            else:
                tally.given_up.append(body[:300])
        tally.failures.update(self.stage.errors())
        return tally

    def _dead_letters(self) -> Iterator[str]:
        """Yield what lies in the dead-letter queues."""
        sqs = self.cloud.client("sqs")
        for name in self.stage.dead_letters():
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get(
                "Messages"
            ):
                yield from (message["Body"] for message in found)

    def _judge_pods(self) -> None:
        tally = self.tally
        tally.wanted = self.weather.pods
        said = {one["involvedObject"]["name"] for one in self.stage.told("FailedScheduling")}
        alive = self.stage.pods()
        for one in alive:
            name = one["metadata"]["name"]
            if one["status"].get("phase") == "Running":
                tally.running += 1
            elif not one["spec"].get("nodeName") and name in said:
                tally.waiting_with_reason += 1
            else:
                tally.lost.append(name)
        missing = tally.wanted - len(alive)
        if missing > 0:
            tally.lost.append(f"{missing} pods were never made again")

    def _judge_instances(self) -> None:
        machines = {one["InstanceId"] for one in self.stage.machines()}
        claimed = {
            claim["status"].get("providerID", "").rpartition("/")[2]: claim["metadata"]["name"]
            for claim in self.stage.claims()
        }
        noded = {
            node["spec"].get("providerID", "").rpartition("/")[2]
            for node in self.stage.all("nodes")
            if labels.NODEPOOL in node["metadata"]["labels"]
        }
        unowned = self.tally.unowned
        unowned += [f"instance {one} has no NodeClaim" for one in sorted(machines - set(claimed))]
        unowned += [
            f"NodeClaim of {one} has no instance" for one in sorted(set(claimed) - machines)
        ]
        unowned += [f"Node of {one} has no instance" for one in sorted(noded - machines)]
        unowned += [f"instance {one} has no Node" for one in sorted(machines - noded)]
