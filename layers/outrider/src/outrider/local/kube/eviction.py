"""The Eviction API: delete a pod if its PodDisruptionBudget allows one more disruption.

Matches kube-apiserver: 429 with the cause DisruptionBudget when the budget is used up, 429 with
Retry-After while the budget's status lags its spec, 500 for a pod under two budgets; pods that are
pending, finished or leaving need no budget; unready ones follow `unhealthyPodEvictionPolicy`. The
budget is charged in the PDB's status before the pod is deleted, so that two callers cannot spend it
twice. Refuses to know how the status is computed (controllers/disruption).
"""

from __future__ import annotations

from dataclasses import replace

from outrider.local.kube.api import API
from outrider.local.kube.calls import Call, check_preconditions, deletion
from outrider.local.kube.objects import Key, Obj, is_leaving, is_ready, labels_of
from outrider.local.kube.selectors import structured
from outrider.local.kube.status import StatusError, bad_request, forbidden, internal

PDBS = "poddisruptionbudgets.policy"
_TWO_BUDGETS = (
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not "
    "support."
)
_WOULD_VIOLATE = "Cannot evict pod as it would violate the pod's disruption budget."


def evict(api: API, key: Key, body: Obj, call: Call) -> Obj:
    """Evict the pod at *key* as the Eviction *body* asks, or refuse."""
    name = (body.get("metadata") or {}).get("name")
    if name and name != key[1]:
        raise bad_request("name in URL does not match name in Eviction object")
    pods = api.resource("pods")
    options = replace(deletion(body.get("deleteOptions") or {}), how="eviction")
    dry = call.dry_run or bool((body.get("deleteOptions") or {}).get("dryRun"))
    call = replace(call, dry_run=dry)
    pod = api.entry(pods, key).object
    check_preconditions(pods, pod, options)
    if not _needs_no_budget(pod):
        _charge(api, pod, call)
    api.delete(pods, key, options, call)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def budgets_of(api: API, pod: Obj) -> list[Obj]:
    """Return the PodDisruptionBudgets that select *pod*."""
    namespace = pod["metadata"]["namespace"]
    return [
        budget
        for budget in api.store.objects(PDBS, namespace)
        if structured((budget.get("spec") or {}).get("selector"))(labels_of(pod))
    ]


def _needs_no_budget(pod: Obj) -> bool:
    return is_leaving(pod) or (pod.get("status") or {}).get("phase") in {
        "Succeeded",
        "Failed",
        "Pending",
    }


def _charge(api: API, pod: Obj, call: Call) -> None:
    budgets = budgets_of(api, pod)
    if len(budgets) > 1:
        raise internal(_TWO_BUDGETS)
    if not budgets:
        return
    budget = budgets[0]
    if not is_ready(pod) and _unhealthy_may_go(budget):
        return
    pdbs = api.resource(PDBS)
    key = budget["metadata"]["namespace"], budget["metadata"]["name"]

    def spend(current: Obj) -> Obj:
        _check(current)
        status = dict(current["status"])
        status["disruptionsAllowed"] -= 1
        disrupted = {**(status.get("disruptedPods") or {}), pod["metadata"]["name"]: api.now()}
        status["disruptedPods"] = disrupted
        return {**current, "status": status}

    api.patch(pdbs, key, spend, replace(call, manager="kube-apiserver"), "status")


def _unhealthy_may_go(budget: Obj) -> bool:
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    return bool(healthy >= desired > 0)


def _check(budget: Obj) -> None:
    status = budget.get("status") or {}
    name = budget["metadata"]["name"]
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise _blocked(
            f"The disruption budget {name} is still being processed by the server.", retry_after=10
        )
    allowed = status.get("disruptionsAllowed", 0)
    if allowed < 0:
        raise forbidden(
            "poddisruptionbudgets", "policy", name, "pdb disruptions allowed is negative"
        )
    if allowed == 0:
        desired, healthy = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        raise _blocked(
            f"The disruption budget {name} needs {desired} healthy pods "
            f"and has {healthy} currently",
            retry_after=0,
        )


def _blocked(message: str, *, retry_after: int) -> StatusError:
    cause = {"reason": "DisruptionBudget", "message": message}
    return StatusError(
        429,
        "TooManyRequests",
        _WOULD_VIOLATE,
        details={"causes": [cause]},
        retry_after=retry_after,
    )
