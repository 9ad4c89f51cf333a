"""A plan on paper: a row a kind of node where there is room, two lines where there is not."""

from __future__ import annotations

import pytest

from outrider.cli.plan import shown
from outrider.cli.tables import print_plan
from tests.support import builders as b
from tests.support.expect import planned

PLAN = planned(
    *(b.pod(f"web-{index}", namespace="shop", cpu="3", memory="9Gi") for index in range(3)),
    b.nodepool("general-purpose"),
    b.pod("train", gpu=16),
).plan


def printed(width: int | None, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Print the plan on paper of a *width*."""
    print_plan(PLAN, shown(PLAN, 4, {})["summary"], width)
    return capsys.readouterr().out.splitlines()


def test_a_row_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is room, a table: how many, which, the price, what it holds, for whom."""
    lines = printed(None, capsys)
    (head,) = [line for line in lines if "cheapest" in line]
    said = "nodes cheapest $/h each NodePool holds pods each ways to buy"
    assert " ".join(head.split()) == said
    assert any("general-purpose" in line and "shop/web" in line for line in lines)


def test_two_lines_a_kind_where_it_is_narrow(capsys: pytest.CaptureFixture[str]) -> None:
    """On eighty columns nothing is folded within a word, and nothing is lost."""
    lines = printed(80, capsys)
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for said in ("general-purpose", "shop/web", "ways to buy", "InsufficientResources"):
        assert said in text
    assert "3 of 4 pods placed" in text


def test_the_closing_line_says_what_first_fit_would_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside the price stands first fit's for the same pods, and what is saved."""
    large = b.instance_type("large", cpu="8", memory="32Gi", offerings=[b.offering(price=1.0)])
    small = b.instance_type("small", cpu="2", memory="8Gi", offerings=[b.offering(price=0.1)])
    pods = [b.pod(f"p{index}", cpu="2") for index in range(4)]
    documents, goods = (b.nodepool("pool"), *pods), b.catalog(large, small)
    cost = planned(*documents, catalog=goods, strategy="cost").plan
    plain = planned(*documents, catalog=goods, strategy="first-fit").plan
    assert cost.first_fit_per_hour == plain.price_per_hour
    assert plain.first_fit_per_hour is None
    print_plan(cost, shown(cost, 4, {})["summary"])
    closing = capsys.readouterr().out.splitlines()[-1]
    assert closing == "First fit would pay $1.0000/h for the same pods: $0.6000/h saved, 60%"
