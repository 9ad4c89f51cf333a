"""Consolidation on the embedded cloud: empty nodes go, a cheaper one replaces, then silence."""

from __future__ import annotations

import pytest

from outrider.apis import labels
from tests.support.story import Story, deployment

pytestmark = pytest.mark.e2e


def test_a_cluster_that_shrank_gets_cheaper_and_settles() -> None:
    """After a scale-down empty nodes go, the last one is replaced by a smaller one before its pod
    is evicted, and further passes do nothing.
    """
    with Story() as story:
        story.apply(deployment("web", 6, "1500m"))
        story.run(120, "web", 6)
        many = len(story.instances())
        story.apply(deployment("web", 1, "1500m"))
        story.cloud.run(900)
        assert len(story.running("web")) == 1
        assert len(story.instances()) == 1 < many
        assert {entry["how"] for entry in story.told("podGone")} == {"exited after SIGTERM"}
        quiet = story.cloud.timeline.at()
        story.cloud.run(1200)
        for kind in ("terminate", "createFleet", "evict"):
            assert story.told(kind, quiet) == [], story.tail()


def test_protected_work_is_not_moved() -> None:
    """A node with a do-not-disrupt pod stays, however badly it is used."""
    protected = {labels.DO_NOT_DISRUPT: "true"}
    with Story() as story:
        story.apply(deployment("train", 1, "500m", **protected), deployment("web", 3, "2"))
        story.run(120, "train", 1)
        story.run(120, "web", 3)
        home = story.instance_of(story.running("train")[0])
        story.apply(deployment("web", 0, "2"))
        story.cloud.run(900)
        assert story.instances() == [home]
        assert story.instance_of(story.running("train")[0]) == home
