"""A scheduler that never sees outrider's plan: queue, filters, scores, binding, and what it says.

Matches kube-scheduler's default profile as far as a provisioner can tell: order of pods, which
nodes are feasible, LeastAllocated with preferences, nominatedNodeName first, preemption, the
PodScheduled condition and the FailedScheduling Event word for word.
"""

from __future__ import annotations

from outrider.local.kube.scheduler.loop import Scheduler

__all__ = ["Scheduler"]
