"""Laws of device claims: whatever is claimed and published, a plan can be allocated.

Nothing is mocked. Documents go through the real parsers; a judge that shares no code with the
planner tries every way of giving out the devices of every node of a plan.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.allocation import unallocated
from tests.support.builders import Json, catalog, instance_type, node, pod
from tests.support.devices import (
    DRIVER,
    claim_template,
    claiming,
    device,
    device_class,
    first_of,
    publishing,
    request,
    resource_claim,
    resource_slice,
    together,
)
from tests.support.expect import planned

MODELS, SIZES = ("a", "b"), ("16Gi", "80Gi")
SELECTORS = (
    *(f'device.attributes["{DRIVER}"].model == "{model}"' for model in MODELS),
    f'device.attributes["{DRIVER}"].slot > 0',
    f'device.capacity["{DRIVER}"].memory.compareTo(quantity("40Gi")) >= 0',
)

kinds = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "slot": st.integers(0, 1),
        "capacity": st.sampled_from(SIZES).map(lambda size: {"memory": size}),
    }
)
published = st.lists(
    st.tuples(st.integers(1, 3), kinds).map(lambda item: publishing(item[0], **item[1])), max_size=3
)
exact = st.tuples(
    st.lists(st.sampled_from(SELECTORS), max_size=2, unique=True), st.integers(1, 3)
).map(lambda item: request("r", *item[0], count=item[1]))
every = st.lists(st.sampled_from(SELECTORS), max_size=1).map(
    lambda chosen: {
        "name": "r",
        "exactly": {k: v for k, v in request("r", *chosen)["exactly"].items() if k != "count"}
        | {"allocationMode": "All"},
    }
)
either = st.tuples(exact, exact).map(
    lambda two: first_of("r", *({**one, "name": f"s{i}"} for i, one in enumerate(two)))
)


def named(requests: list[Json]) -> list[Json]:
    """Give requests names of their own."""
    return [{**item, "name": f"r{place}"} for place, item in enumerate(requests)]


requests = st.lists(st.one_of(exact, exact, exact, every, either), min_size=1, max_size=2).map(
    named
)
constraints = st.sampled_from([(), (), (together(f"{DRIVER}/model"),)])


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Json], Json]:
    """Draw pods with claims, nodes with slices, and a catalogue that publishes devices."""
    goods = catalog(
        *(
            instance_type(f"t{place}", cpu="8", price=1.0 + place, devices=draw(published))
            for place in range(draw(st.integers(1, 3)))
        )
    )
    documents = [device_class()]
    for place in range(draw(st.integers(0, 2))):
        found = [device(f"d{number}", **draw(kinds)) for number in range(draw(st.integers(1, 3)))]
        documents += [
            node(f"n{place}", cpu="8"),
            resource_slice(f"s{place}", *found, node=f"n{place}", pool=f"p{place}"),
        ]
        if draw(st.booleans()):
            documents.append(
                resource_claim(f"held{place}", allocated=["d0"], node=f"n{place}", pool=f"p{place}")
            )
    for place in range(draw(st.integers(1, 2))):
        documents.append(
            claim_template(f"m{place}", *draw(requests), constraints=draw(constraints))
        )
    if draw(st.booleans()):
        documents.append(resource_claim("common", *draw(requests)))
    templates = [item["metadata"]["name"] for item in documents if "Template" in item["kind"]]
    for place in range(draw(st.integers(1, 5))):
        common = draw(st.booleans()) and any(
            item["metadata"]["name"] == "common" for item in documents
        )
        spec: Json = (
            claiming("common") if common else claiming(template=draw(st.sampled_from(templates)))
        )
        documents.append(pod(f"pod{place}", cpu="1", spec=spec))
    return documents, goods


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(scene=scenes(), strategy=st.sampled_from(["first-fit", "cost"]))
def test_what_is_planned_can_be_allocated(scene: tuple[list[Json], Json], strategy: str) -> None:
    """On every node of a plan, whichever type is launched, all claims can be allocated at once."""
    documents, goods = scene
    answer = planned(*documents, catalog=goods, strategy=strategy)
    assert list(unallocated(documents, goods, answer.json)) == []


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    lists=st.lists(published, min_size=1, max_size=3),
    asked=st.lists(st.one_of(exact, exact, every), min_size=1, max_size=2).map(named),
    agreed=constraints,
)
def test_what_can_be_allocated_is_planned(
    lists: list[list[Json]], asked: list[Json], agreed: tuple[Json, ...]
) -> None:
    """A pod whose claim some type can serve alone, and can be judged, gets a node of such a type.

    All devices of a kind beside some of the same, or with a constraint on what differs among them,
    are beyond judging.
    """
    goods: Any = catalog(
        *(instance_type(f"t{place}", devices=found) for place, found in enumerate(lists))
    )
    documents = [
        device_class(),
        claim_template("m", *asked, constraints=agreed),
        pod(spec=claiming(template="m")),
    ]
    answer = planned(*documents, catalog=goods)
    able = {
        kind["name"]
        for kind in goods["instanceTypes"]
        if not list(unallocated(documents, goods, _on(kind["name"])))
    }
    if answer.plan.rejections and "cannot be judged" in answer.reason("pod"):
        return
    whole = any("allocationMode" in item["exactly"] for item in asked)
    assert answer.types("pod") <= able
    assert answer.types("pod") == able or (whole and agreed)


def _on(name: str) -> Json:
    launch = {"name": "x", "pods": ["default/pod"], "instanceTypes": [name]}
    return {"launches": [launch], "placements": []}
