"""outrider on the real control plane: the embedded account in this process, the cluster outside.

`Town` is what `outrider local up --kubeconfig` serves, with kubelets that boot quickly. It runs on
real time, because kube-scheduler and the controllers do; whoever waits, waits by watching. What the
functions did in the cluster is read in the API server's audit log.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outrider.local.clock import ScaledClock
from outrider.local.cloud import Cloud
from outrider.local.existing import ExistingCluster
from outrider.local.kube.kubelets import Timings
from outrider.local.timeline import Entry
from tests.conformance.probe import MERGE
from tests.e2e.real.admin import Administrator
from tests.e2e.real.audit import Deed
from tests.e2e.real.controlplane import ControlPlane

TEMPLATE = Path(__file__).parents[3] / "template.yaml"
# A machine that boots in two seconds: EC2's own part (2 to 5 s) stays as it is.
QUICK = Timings(
    join=0.5,
    join_jitter=0.5,
    ready=0.5,
    devices=0.5,
    start=0.1,
    stop=0.5,
    node_removal=5.0,
    image_bytes=1_000_000,
)
PATIENCE = 90.0
POOL_LABEL = "karpenter.sh/nodepool"


class Town:
    """The embedded account around a real control plane."""

    def __init__(self, plane: ControlPlane, admin: Administrator) -> None:
        self.plane = plane
        self.admin = admin
        self.cloud = Cloud(
            template=TEMPLATE, clock=ScaledClock(), kubeconfig=plane.kubeconfig, seed=1
        )
        self._news = threading.Condition()

    def open(self) -> None:
        """Start it."""
        self.cloud.start()
        cluster = self.cloud.cluster
        assert isinstance(cluster, ExistingCluster)
        cluster.kubelets.timings = QUICK
        self.cloud.timeline.listen(self._heard)

    def close(self) -> None:
        """Take the pods away, then the machines, then the account."""
        self.admin.send("DELETE", self.admin.pods, {"gracePeriodSeconds": 0})
        self.cloud.stop()
        self.clear_away()

    def clear_away(self, pool: str = "") -> None:
        """Take NodeClaims and Nodes away without a word, those of one *pool* where it is named.

        Their machines have nobody to stand for then; the minute's tick gives them back.
        """
        chosen = {"labelSelector": f"{POOL_LABEL}={pool}"} if pool else {}
        for collection in ("/apis/karpenter.sh/v1/nodeclaims", "/api/v1/nodes"):
            for one in self.admin.must("GET", collection, **chosen)["items"]:
                path = f"{collection}/{one['metadata']['name']}"
                self.admin.send("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
                self.admin.send("DELETE", path)

    def _heard(self, _entry: Entry) -> None:
        with self._news:
            self._news.notify_all()

    def seen(self, kind: str, since: int = 0, **fields: Any) -> list[Entry]:
        """Return the happenings of a kind."""
        return [
            entry
            for entry in self.cloud.timeline.entries(since)
            if entry["kind"] == kind and fields.items() <= entry.items()
        ]

    def mark(self) -> int:
        """Return the place in the timeline from which to look for what comes."""
        return len(self.cloud.timeline.entries())

    def until(self, what: str, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Wait for happenings until *holds* gives something, and return it."""
        end = time.monotonic() + seconds
        while not (found := holds()):
            if time.monotonic() > end:
                last = "\n".join(str(entry)[:300] for entry in self.cloud.timeline.entries()[-25:])
                raise AssertionError(f"{what} did not come to pass; the last that did:\n{last}")
            with self._news:
                self._news.wait(1.0)
        return found

    def running(self, *names: str, since: int = 0, seconds: float = PATIENCE) -> None:
        """Wait until each of the pods has come to run."""
        wanted = {f"{self.admin.namespace}/{name}" for name in names}

        def all_run() -> bool:
            return wanted <= {entry["pod"] for entry in self.seen("podRunning", since)}

        self.until(f"running {', '.join(sorted(wanted))}", all_run, seconds)

    def tick(self, flow: str) -> None:
        """Let the minute pass for one *flow* now."""
        detail = {"cluster": "local", "flow": flow}
        self.cloud.put_event({"source": "outrider.ticks", "detail-type": "Tick", "detail": detail})

    def node_of(self, pod: str) -> str:
        """Return the Node that a pod is bound to."""
        return str(self.admin.must("GET", f"{self.admin.pods}/{pod}")["spec"]["nodeName"])

    def dead_letters(self) -> list[dict[str, Any]]:
        """Take the messages out of every dead-letter queue."""
        stack, queues = self.cloud.stack, self.cloud.client("sqs")
        assert stack is not None
        found = []
        for url in stack.outputs["DeadLetterQueueUrls"].split(","):
            while messages := queues.receive_message(QueueUrl=url).get("Messages"):
                found += [json.loads(one["Body"]) for one in messages]
        return found

    def deeds(self) -> list[Deed]:
        """Return what the functions have asked of the API server."""
        return self.plane.audit.deeds()


@contextmanager
def opened(plane: ControlPlane, admin: Administrator) -> Iterator[Town]:
    """Open a town and close it again."""
    made = Town(plane, admin)
    try:
        made.open()
        yield made
    finally:
        made.close()
