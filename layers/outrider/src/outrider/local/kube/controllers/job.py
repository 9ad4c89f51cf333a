"""Job: run pods until so many have succeeded, Indexed or not, within backoffLimit.

Matches the Job controller in parallelism, completion indexes, suspension, activeDeadlineSeconds and
ttlSecondsAfterFinished. A pod that is evicted is replaced and does not count as failed, as with a
podFailurePolicy that ignores DisruptionTarget.
"""

from __future__ import annotations

from outrider.local.kube.api import API
from outrider.local.kube.controllers.base import Controller, active, has_condition
from outrider.local.kube.objects import (
    Obj,
    annotations_of,
    is_leaving,
    is_ready,
    is_true,
    read_stamp,
    with_condition,
)

_INDEX = "batch.kubernetes.io/job-completion-index"


class Jobs(Controller):
    """Creates pods and counts their ends."""

    name = "job-controller"
    storage = "jobs.batch"

    def __init__(self, api: API) -> None:
        super().__init__(api)
        self.follow_owned("pods", "Job")

    def reconcile(self, obj: Obj) -> None:
        """Start what may run, and declare the Job complete or failed."""
        if is_leaving(obj):
            return
        if is_true(obj, "Complete") or is_true(obj, "Failed"):
            self._expire(obj)
            return
        pods = self.owned(obj, "pods")
        running = active(pods)
        succeeded, failed = _in_phase(pods, "Succeeded"), _in_phase(pods, "Failed")
        spec = obj["spec"]
        done = _indexes(succeeded) if _is_indexed(obj) else len(succeeded)
        verdict = self._verdict(
            obj, done if isinstance(done, int) else len(done), len(failed), running
        )
        if any(verdict) or spec.get("suspend"):
            for pod in running:
                self.remove("pods", pod)
        else:
            leaving = [pod for pod in pods if is_leaving(pod)]
            self._start(obj, running, leaving, done)
        self._report(obj, verdict)

    def _verdict(self, obj: Obj, done: int, failed: int, running: list[Obj]) -> tuple[str, str]:
        spec = obj["spec"]
        completions = spec.get("completions")
        if completions is not None and done >= completions:
            return "Complete", "CompletionsReached"
        if completions is None and done and not running:
            return "Complete", "CompletionsReached"
        if failed > spec.get("backoffLimit", 6):
            return "Failed", "BackoffLimitExceeded"
        limit, start = (
            spec.get("activeDeadlineSeconds"),
            read_stamp((obj.get("status") or {}).get("startTime")),
        )
        if limit and start:
            left = limit - (self.api.clock.now() - start).total_seconds()
            if left <= 0:
                return "Failed", "DeadlineExceeded"
            self.queue.add_after((obj["metadata"]["namespace"], obj["metadata"]["name"]), left)
        return "", ""

    def _start(
        self, obj: Obj, running: list[Obj], leaving: list[Obj], done: int | set[int]
    ) -> None:
        spec = obj["spec"]
        completions, parallelism = spec.get("completions"), spec.get("parallelism", 1)
        if isinstance(done, set):
            taken = done | _indexes(running) | _indexes(leaving)
            free = [index for index in range(completions or 0) if index not in taken]
            for index in free[: max(parallelism - len(running), 0)]:
                self._create_indexed(obj, index)
            return
        left = parallelism if completions is None else min(parallelism, completions - done)
        if completions is None and done:
            left = 0  # a work queue's Job starts nothing new once one pod has succeeded
        for _ in range(left - len(running)):
            self.create_pod(obj, spec["template"])
        for pod in running[max(left, 0) :] if completions is not None else ():
            self.remove("pods", pod)

    def _create_indexed(self, obj: Obj, index: int) -> None:
        name = obj["metadata"]["name"]

        def complete(pod: Obj) -> None:
            pod["metadata"].setdefault("annotations", {})[_INDEX] = str(index)
            pod["metadata"].setdefault("labels", {})[_INDEX] = str(index)
            pod["spec"].setdefault("hostname", f"{name}-{index}")
            source = {"fieldRef": {"fieldPath": f"metadata.labels['{_INDEX}']"}}
            for container in pod["spec"]["containers"]:
                container.setdefault("env", []).append(
                    {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}
                )

        pod_name = f"{name}-{index}-{self.api.new_suffix()}"
        self.create_pod(obj, obj["spec"]["template"], name=pod_name, change=complete)

    def _report(self, obj: Obj, verdict: tuple[str, str]) -> None:
        pods = self.owned(obj, "pods")
        running, succeeded = active(pods), _in_phase(pods, "Succeeded")
        now = self.api.now()
        have = obj.get("status") or {}
        status: Obj = {
            "active": len(running),
            "ready": sum(map(is_ready, running)),
            "terminating": sum(map(is_leaving, pods)),
            "succeeded": len(succeeded),
            "failed": len(_in_phase(pods, "Failed")),
        }
        if not obj["spec"].get("suspend"):
            status["startTime"] = have.get("startTime") or now
        if _is_indexed(obj):
            status["completedIndexes"] = _ranges(_indexes(succeeded))
        if any(verdict):
            kind, reason = verdict
            condition = {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": _say(reason),
                "lastProbeTime": now,
            }
            status["conditions"] = with_condition(have.get("conditions"), condition, now)
            if kind == "Complete":
                status["completionTime"] = now
        elif bool(obj["spec"].get("suspend")) != has_condition(
            obj, "Suspended", "True", "JobSuspended"
        ):
            suspended = bool(obj["spec"].get("suspend"))
            condition = {
                "type": "Suspended",
                "status": str(suspended),
                "reason": "JobSuspended" if suspended else "JobResumed",
                "message": "Job suspended" if suspended else "Job resumed",
            }
            status["conditions"] = with_condition(have.get("conditions"), condition, now)
        self.set_status(obj, status)

    def _expire(self, obj: Obj) -> None:
        ttl = obj["spec"].get("ttlSecondsAfterFinished")
        if ttl is None:
            return
        ends = [
            read_stamp(condition.get("lastTransitionTime"))
            for condition in obj["status"]["conditions"]
            if condition["type"] in {"Complete", "Failed"}
        ]
        end = next(iter(ends), None) or self.api.clock.now()
        left = ttl - (self.api.clock.now() - end).total_seconds()
        if left <= 0:
            self.remove(self.storage, obj)
        else:
            self.queue.add_after((obj["metadata"]["namespace"], obj["metadata"]["name"]), left)


def _is_indexed(job: Obj) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def _in_phase(pods: list[Obj], phase: str) -> list[Obj]:
    return [pod for pod in pods if (pod.get("status") or {}).get("phase") == phase]


def _indexes(pods: list[Obj]) -> set[int]:
    return {int(annotations_of(pod).get(_INDEX, -1)) for pod in pods}


def _ranges(indexes: set[int]) -> str:
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _say(reason: str) -> str:
    return {
        "CompletionsReached": "Reached expected number of succeeded pods",
        "BackoffLimitExceeded": "Job has reached the specified backoff limit",
        "DeadlineExceeded": "Job was active longer than specified deadline",
    }[reason]
