"""The controllers of kube-controller-manager and of the cloud that the project relies on.

Each is a work queue fed by changes in the store: nothing polls, and because reader and writer share
one store there is no stale cache to wait for. `start` runs them all.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.controllers.daemonset import DaemonSets
from outrider.local.kube.controllers.deployment import Deployments
from outrider.local.kube.controllers.disruption import Budgets
from outrider.local.kube.controllers.garbage import Garbage
from outrider.local.kube.controllers.job import Jobs
from outrider.local.kube.controllers.namespace import Namespaces
from outrider.local.kube.controllers.nodelifecycle import NodeLifecycle
from outrider.local.kube.controllers.podgc import Orphans
from outrider.local.kube.controllers.replicaset import ReplicaSets
from outrider.local.kube.controllers.statefulset import StatefulSets
from outrider.local.kube.controllers.volumes import Volumes

ALL = (
    Namespaces,
    Garbage,
    Deployments,
    ReplicaSets,
    StatefulSets,
    DaemonSets,
    Jobs,
    Budgets,
    NodeLifecycle,
    Orphans,
    Volumes,
)


def start(api: API) -> None:
    """Run every controller on *api*."""
    for controller in ALL:
        controller(api)
