"""Promises about room that is paid for already: who gets it when not all can."""

from __future__ import annotations

from tests.support import builders as b
from tests.support.expect import Planned, planned

ONE = b.catalog(
    b.instance_type("plain", cpu="8", memory="32Gi", offerings=[b.offering(price=0.4)]),
    b.instance_type("gpu", cpu="8", memory="32Gi", gpu=1, offerings=[b.offering(price=4.0)]),
)


def cost(*documents: b.Json) -> Planned:
    """Plan *documents* with the cost strategy."""
    return planned(b.nodepool("pool"), *documents, catalog=ONE, strategy="cost")


def test_a_free_device_goes_to_those_who_need_one() -> None:
    """Pods that ask for more cpu but no device leave a node with a free device to those that do."""
    answer = cost(
        b.node("here", cpu="8", memory="32Gi", resources={"nvidia.com/gpu": "1"}),
        *(b.pod(f"web-{index}", cpu="4") for index in range(2)),
        b.pod("infer", cpu="1", gpu=1),
    )
    assert answer.placed_on("infer") == "here"
    assert answer.cost() == 0.4


def test_a_pod_moves_over_for_another() -> None:
    """Where two pods fit only if each has the node that suits it, nothing is bought."""
    answer = cost(
        b.node("near", cpu="4", memory="16Gi"),
        b.node("other", cpu="4", memory="8Gi"),
        *(b.pod(f"small-{index}", cpu="2", memory="2Gi") for index in range(2)),
        b.pod("large", cpu="1", memory="14Gi"),
    )
    assert answer.placed_on("large") == "near"
    assert answer.cost() == 0.0


def test_importance_comes_before_worth() -> None:
    """The pod of higher priority keeps the only room there is, whatever the other would cost."""
    only = {"site": "here"}
    answer = cost(
        b.node("here", cpu="2", memory="8Gi", labels=only),
        b.pod("first", cpu="2", priority=1, selector=only),
        b.pod("later", cpu="2", memory="4Gi", selector=only),
    )
    assert answer.placed_on("first") == "here"
    assert answer.placed_on("later") is None
