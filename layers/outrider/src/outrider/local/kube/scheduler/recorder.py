"""The scheduler's Events: created through the real admission path, so that webhooks fire.

One CREATE for a pod's failure streak; the next failure turns it into a series by a PATCH, later
ones only count in memory, as client-go's broadcaster does for six minutes. Events go out beside the
scheduling loop, at most 50 a second after a burst of 100 (kube-scheduler's client limits), and are
dropped when 1,000 wait. Refuses to know why a pod failed.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from dataclasses import dataclass

from outrider.local.clock import Clock
from outrider.local.kube.api import API
from outrider.local.kube.calls import Call
from outrider.local.kube.objects import Obj, User, micro_stamp, uid_of
from outrider.local.kube.status import StatusError

log = logging.getLogger("outrider.local.kube")

SCHEDULER = User("system:kube-scheduler", ("system:masters", "system:authenticated"))
_PER_SECOND, _BURST, _WAITING = 50.0, 100.0, 1000
_STREAK_SECONDS = 360.0
_NOTE = 1024


@dataclass(slots=True)
class _Streak:
    """Repeats of one event."""

    name: str
    last: float
    count: int = 1


class Recorder:
    """Sends events without holding up whoever records them."""

    def __init__(self, api: API, dice: random.Random) -> None:
        self._api = api
        self._clock: Clock = api.clock
        self._dice = dice
        self._call = Call(user=SCHEDULER, manager="kube-scheduler")
        self._resource = api.table.of_kind("events.k8s.io/v1", "Event")
        self._streaks: dict[tuple[str, str], _Streak] = {}
        self._waiting: deque[tuple[Obj, _Streak]] = deque()
        self._tokens = _BURST
        self._filled_at = self._clock.at()
        self._armed = False
        self._lock = threading.Lock()

    def failed(self, pod: Obj, message: str) -> None:
        """Record that *pod* could not be placed."""
        self._record(pod, "Warning", "FailedScheduling", "Scheduling", message)

    def scheduled(self, pod: Obj, node: str) -> None:
        """Record that *pod* was bound to *node*."""
        meta = pod["metadata"]
        note = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
        self._record(pod, "Normal", "Scheduled", "Binding", note)
        self._streaks.pop((uid_of(pod), "FailedScheduling"), None)

    def preempted(self, victim: Obj, by: Obj) -> None:
        """Record that *victim* made room."""
        note = f"Preempted by pod {uid_of(by)} on node {victim['spec'].get('nodeName', '')}"
        self._record(victim, "Normal", "Preempted", "Preempting", note)

    def _record(self, pod: Obj, kind: str, reason: str, action: str, note: str) -> None:
        now = self._clock.at()
        mark = uid_of(pod), reason
        streak = self._streaks.get(mark)
        if streak is not None and now - streak.last < _STREAK_SECONDS:
            streak.last = now
            streak.count += 1
            if streak.count > 2:
                return
        else:
            name = f"{pod['metadata']['name']}.{self._dice.getrandbits(64):016x}"
            streak = self._streaks[mark] = _Streak(name, now)
            self._forget_old(now)
        event = {
            "kind": "Event",
            "apiVersion": "events.k8s.io/v1",
            "metadata": {"name": streak.name, "namespace": pod["metadata"]["namespace"]},
            "eventTime": micro_stamp(self._clock.now()),
            "reportingController": "default-scheduler",
            "reportingInstance": "default-scheduler-outrider-local",
            "action": action,
            "reason": reason,
            "type": kind,
            "note": note[:_NOTE],
            "regarding": {
                "kind": "Pod",
                "apiVersion": "v1",
                "namespace": pod["metadata"]["namespace"],
                "name": pod["metadata"]["name"],
                "uid": uid_of(pod),
                "resourceVersion": pod["metadata"]["resourceVersion"],
            },
        }
        with self._lock:
            if len(self._waiting) < _WAITING:
                self._waiting.append((event, streak))
        self._pump()

    def _forget_old(self, now: float) -> None:
        if len(self._streaks) > 20_000:
            self._streaks = {
                mark: one for mark, one in self._streaks.items() if now - one.last < _STREAK_SECONDS
            }

    def _pump(self) -> None:
        """Send as many as the rate allows now, and come back for the rest."""
        while True:
            with self._lock:
                if not self._waiting or self._armed:
                    return
                now = self._clock.at()
                self._tokens = min(_BURST, self._tokens + (now - self._filled_at) * _PER_SECOND)
                self._filled_at = now
                if self._tokens < 1:
                    self._armed = True
                    wait = (1 - self._tokens) / _PER_SECOND
                    break
                self._tokens -= 1
                event, streak = self._waiting.popleft()
            self._clock.spawn(lambda event=event, streak=streak: self._send(event, streak), "event")  # type: ignore[misc]
        self._clock.call_later(wait + 1e-6, self._rearm)

    def _rearm(self) -> None:
        with self._lock:
            self._armed = False
        self._pump()

    def _send(self, event: Obj, streak: _Streak) -> None:
        resource = self._resource
        if resource is None:
            return
        key = event["metadata"]["namespace"], event["metadata"]["name"]
        try:
            if streak.count > 1 and self._api.store.get("events", key) is not None:
                series = {"count": streak.count, "lastObservedTime": event["eventTime"]}
                self._api.patch(resource, key, lambda one: {**one, "series": series}, self._call)
            else:
                self._api.create(resource, key[0], event, self._call)
        except StatusError as refusal:
            log.debug("event %s: %s", key, refusal)
