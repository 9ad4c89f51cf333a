"""Kubelets without machines: running instances become Nodes and run the pods bound to them.

`Kubelets` is told by the cloud which instances run; it reads their user data as their operating
system would, joins the cluster through a small client (this process's API, or a real one over
HTTP), and plays out readiness, device plugins, image pulls, pods and their ends on the clock.
"""

from __future__ import annotations

from outrider.local.kube.kubelets.facts import Faults, Gpu, InstanceFacts, Timings
from outrider.local.kube.kubelets.fleet import Kubelets
from outrider.local.kube.kubelets.userdata import NodeSettings, UserDataError, parse

__all__ = [
    "Faults",
    "Gpu",
    "InstanceFacts",
    "Kubelets",
    "NodeSettings",
    "Timings",
    "UserDataError",
    "parse",
]
