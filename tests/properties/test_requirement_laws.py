"""The requirement algebra against a model that enumerates every state of a label."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outrider.core.requirements import Requirement, Requirements

STATES: tuple[str | None, ...] = (None, "a", "b", "1", "2", "3", "7", "-1", "07")
VALUES = [state for state in STATES if state is not None]
KEYS = ("k", "l")


@st.composite
def requirements(draw: st.DrawFn, key: str = "k") -> Requirement:
    """Draw a requirement on *key*."""
    operator = draw(
        st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"])
    )
    if operator in {"In", "NotIn"}:
        values = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=4))
    elif operator in {"Exists", "DoesNotExist"}:
        values = []
    else:
        values = [draw(st.sampled_from(["-1", "0", "1", "2", "3", "6"]))]
    return Requirement.of(key, operator, values, draw(st.none() | st.integers(1, 5)))


def meaning(requirement: Requirement) -> set[str | None]:
    """Return the states that *requirement* allows."""
    return {state for state in STATES if requirement.has(state)}


@given(requirements(), requirements())
def test_intersection_is_intersection(left: Requirement, right: Requirement) -> None:
    """What both allow is what each allows."""
    assert meaning(left.intersect(right)) == meaning(left) & meaning(right)


@given(requirements(), requirements())
def test_intersection_commutes(left: Requirement, right: Requirement) -> None:
    """The order of two requirements does not matter."""
    assert left.intersect(right) == right.intersect(left)


@given(requirements(), requirements(), requirements())
def test_intersection_associates(one: Requirement, two: Requirement, three: Requirement) -> None:
    """The grouping of three requirements does not matter."""
    assert meaning(one.intersect(two).intersect(three)) == meaning(
        one.intersect(two.intersect(three))
    )


@given(requirements())
def test_intersection_is_idempotent(requirement: Requirement) -> None:
    """Saying it twice says no more."""
    assert requirement.intersect(requirement) == requirement


@given(requirements(), requirements())
def test_what_meets_in_the_model_intersects(left: Requirement, right: Requirement) -> None:
    """Two requirements with a state in common intersect; an empty one meets nothing."""
    if meaning(left) & meaning(right):
        assert left.intersects(right)
    assert left.intersect(right).empty <= (not meaning(left) & meaning(right))


@given(requirements(), requirements())
def test_min_values_keep_the_largest(left: Requirement, right: Requirement) -> None:
    """The largest minValues of a key wins."""
    stated = [value for value in (left.min_values, right.min_values) if value is not None]
    assert left.intersect(right).min_values == max(stated, default=None)


@given(st.lists(requirements(), max_size=3))
def test_json_says_the_same(drawn: list[Requirement]) -> None:
    """A conjunction written as JSON and read again allows the same."""
    whole = Requirements.of(drawn)
    again = Requirements.of(whole.to_json())
    for key in whole:
        expected = meaning(whole[key])
        found = meaning(again[key]) if key in again else set(STATES)
        assert found == expected


@given(
    st.lists(st.sampled_from(KEYS).flatmap(requirements), max_size=4),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES)),
)
def test_admission_is_every_requirement(drawn: list[Requirement], labels: dict[str, str]) -> None:
    """Labels are admitted if and only if they meet every requirement."""
    expected = all(requirement.has(labels.get(requirement.key)) for requirement in drawn)
    assert Requirements.of(drawn).admits(labels) == expected
