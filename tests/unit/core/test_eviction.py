"""A Round of evictions keeps every protection until the deadline, and every deadline."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from outrider.apis import labels
from outrider.apis.meta import EVERYTHING
from outrider.apis.placement import Constraints, Toleration
from outrider.apis.pod import Owner, Pod, PodVolume
from outrider.apis.policy import PodDisruptionBudget
from outrider.apis.storage import PersistentVolumeClaim, VolumeAttachment
from outrider.core.clusterstate import ClusterState
from outrider.core.eviction import Drain, Hold, Round, last_safe_start, next_round

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
BEGUN = NOW - timedelta(minutes=1)


def pod(name: str, **fields: Any) -> Pod:
    """Return a running pod on the node."""
    return Pod(
        namespace="default", name=name, uid=f"uid-{name}", node_name="n1", ready=True, **fields
    )


def daemon(name: str, **fields: Any) -> Pod:
    """Return a DaemonSet's pod on the node."""
    return pod(name, owners=(Owner("DaemonSet", "d", controller=True),), **fields)


def budget(allowed: int, **fields: Any) -> PodDisruptionBudget:
    """Return a budget over every pod that lets *allowed* go."""
    return PodDisruptionBudget(
        "default",
        fields.pop("name", "pdb"),
        selector=EVERYTHING,
        disruptions_allowed=allowed,
        **fields,
    )


def a_round(*objects: object, at: datetime = NOW, **drain: Any) -> Round:
    """Return the next Round on the node with *objects* around it."""
    return next_round(ClusterState.of(objects), Drain("n1", BEGUN, **drain), at)


def leaving(found: Round) -> list[str]:
    """Return the names of the pods that a Round sends off."""
    return [departure.pod.removeprefix("default/") for departure in found.departures]


def test_tiers_leave_one_after_the_other() -> None:
    """Plain pods, then daemons, then critical ones, then critical daemons (statement 128)."""
    critical = {"priority_class_name": "system-cluster-critical"}
    pods = [pod("a"), daemon("b"), pod("c", **critical), daemon("d", **critical)]
    order = []
    while pods:
        gone = leaving(a_round(*pods))
        order.append(gone)
        pods = [one for one in pods if one.name not in gone]
    assert order == [["a"], ["b"], ["c"], ["d"]]


def test_a_tier_waits_for_the_one_before_to_be_gone() -> None:
    """A pod on its way out still holds the next tier back."""
    found = a_round(pod("a", deleted=NOW + timedelta(seconds=20)), daemon("b"))
    assert found.departures == ()
    assert {held.hold for held in found.held} == {Hold.LEAVING, Hold.EARLIER_TIER}


def test_some_pods_hold_nothing() -> None:
    """Static, finished, tolerating and stuck pods are not evicted and do not hold the node."""
    tolerant = Constraints(tolerations=(Toleration(key=labels.DISRUPTED_TAINT, operator="Exists"),))
    found = a_round(
        pod("static", owners=(Owner("Node", "n1"),)),
        pod("finished", phase="Succeeded"),
        pod("tolerant", constraints=tolerant),
        pod("stuck", deleted=NOW - timedelta(minutes=2)),
    )
    assert found.done
    assert found.departures == ()


def test_do_not_disrupt_holds_without_a_deadline() -> None:
    """A protected pod is waited for, however long it takes (F164)."""
    found = a_round(pod("a", annotations={labels.DO_NOT_DISRUPT: "true"}), number=1000)
    assert (found.departures, found.done, found.wait_seconds) == ((), False, 60)
    assert found.held[0].hold is Hold.DO_NOT_DISRUPT


def test_a_duration_protects_until_it_has_passed() -> None:
    """do-not-disrupt as a duration counts from the pod's start."""
    annotations = {labels.DO_NOT_DISRUPT: "10m"}
    young = pod("a", annotations=annotations, started=NOW - timedelta(minutes=9))
    old = pod("b", annotations=annotations, started=NOW - timedelta(minutes=11))
    assert leaving(a_round(young, old)) == ["b"]


def test_a_budget_is_never_overdrawn() -> None:
    """Of three pods under a budget of one, one is asked (the first by name)."""
    found = a_round(pod("a"), pod("b"), pod("c"), budget(1))
    assert leaving(found) == ["a"]
    assert [held.hold for held in found.held] == [Hold.BUDGET, Hold.BUDGET]


def test_two_budgets_on_a_pod_hold_it() -> None:
    """The Eviction API refuses a pod under two budgets, so it is not asked."""
    assert leaving(a_round(pod("a"), budget(1, name="x"), budget(1, name="y"))) == []


def test_unhealthy_pods_under_always_allow_are_free() -> None:
    """A pod that does not serve anyway costs the budget nothing."""
    sick = replace(pod("a"), ready=False)
    assert leaving(a_round(sick, budget(0, unhealthy_policy="AlwaysAllow"))) == ["a"]


def test_a_deadline_overrules_everything_at_the_last_safe_start() -> None:
    """do-not-disrupt, a budget and the tiers hold until deadline - grace - margin, no longer."""
    deadline = NOW + timedelta(seconds=120)
    protected = pod("a", annotations={labels.DO_NOT_DISRUPT: "true"}, grace_seconds=60)
    late = daemon("b", grace_seconds=60)
    assert last_safe_start(protected, deadline) == NOW + timedelta(seconds=50)
    before = a_round(protected, late, budget(0), deadline=deadline, at=NOW + timedelta(seconds=40))
    assert before.departures == ()
    after = a_round(protected, late, budget(0), deadline=deadline, at=NOW + timedelta(seconds=50))
    assert [(one.pod, one.forced, one.grace_seconds) for one in after.departures] == [
        ("default/a", True, 60),
        ("default/b", True, 60),
    ]


def test_a_grace_that_does_not_fit_is_cut_but_never_to_nothing() -> None:
    """A pod whose grace is longer than what is left is deleted at once with what is left."""
    deadline = NOW + timedelta(seconds=100)
    found = a_round(pod("a", grace_seconds=600), deadline=deadline)
    (departure,) = found.departures
    assert (departure.grace_seconds, departure.grace_lost_seconds) == (100, 500)
    last = a_round(pod("a"), deadline=deadline, at=deadline - timedelta(seconds=0.5))
    assert last.departures[0].grace_seconds == 1


def test_waiting_for_a_replacement_evicts_nobody_who_can_wait() -> None:
    """Until the replacement is up only pods whose last safe start has come are sent off."""
    deadline = NOW + timedelta(seconds=120)
    found = a_round(pod("a"), pod("b", grace_seconds=115), deadline=deadline, replaced=False)
    assert leaving(found) == ["b"]
    assert found.held[0].hold is Hold.REPLACEMENT


def test_the_next_look_is_in_time() -> None:
    """No Round sleeps past the next pod's last safe start, or past the deadline."""
    deadline = NOW + timedelta(minutes=20)
    protected = pod("a", annotations={labels.DO_NOT_DISRUPT: "true"})
    found = a_round(protected, deadline=deadline, at=deadline - timedelta(seconds=65), number=500)
    assert found.wait_seconds <= 25


def test_the_deadline_ends_the_drain() -> None:
    """At the deadline the instance goes, and whoever is left is deleted with it, so that nobody
    has to notice first; who is on the way out already is not asked again.
    """
    last = a_round(pod("a"), pod("b", deleted=NOW), deadline=NOW)
    assert last.done
    assert [(one.pod, one.forced, one.grace_seconds) for one in last.departures] == [
        ("default/a", True, 1)
    ]


def test_an_empty_node_is_given_five_seconds() -> None:
    """A pod may have been bound just before the taint."""
    early = next_round(ClusterState(), Drain("n1", NOW - timedelta(seconds=2)), NOW)
    assert (early.done, early.wait_seconds) == (False, 3)


def test_volumes_are_waited_for_unless_their_pod_stays() -> None:
    """Attachments hold the instance, except those of pods that a drain leaves alone (F162)."""
    attached = VolumeAttachment("va", "n1", volume="pv1", attached=True)
    assert not a_round(attached).done
    tolerant = Constraints(tolerations=(Toleration(operator="Exists"),))
    staying = pod("a", constraints=tolerant, volumes=(PodVolume("data", "claim"),))
    claim = PersistentVolumeClaim("default", "claim", volume="pv1", phase="Bound")
    assert a_round(attached, staying, claim).done
    assert a_round(attached, deadline=NOW).done


def test_patience_grows_from_a_second_to_a_minute() -> None:
    """Behind a budget the wait grows, without a jump, and stays at a minute."""
    waits = [a_round(pod("a"), budget(0), number=number).wait_seconds for number in range(40)]
    assert waits[0] == 1
    assert waits[-1] == 60
    assert waits == sorted(waits)
