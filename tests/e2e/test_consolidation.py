"""Consolidation on the embedded cloud: empty nodes go, a cheaper one replaces, then silence."""

from __future__ import annotations

import pytest

from outrider.apis import labels
from tests.support.story import Story, deployment

pytestmark = pytest.mark.e2e


def test_a_cluster_that_shrank_gets_cheaper_and_settles() -> None:
    """After a scale-down empty nodes go and a smaller one replaces the last before its pod is
    evicted; a protected pod keeps its node however badly that is used; then nothing more is done.
    """
    with Story() as story:
        protected = {labels.DO_NOT_DISRUPT: "true"}
        story.apply(deployment("train", 1, "500m", **protected), deployment("web", 6, "1500m"))
        story.run(120, "train", 1)
        story.run(120, "web", 6)
        many = len(story.instances())
        home = story.instance_of(story.running("train")[0])
        story.apply(deployment("web", 1, "1500m"))
        story.cloud.run(900)
        assert len(story.running("web")) == 1
        assert len(story.instances()) <= 2 < many
        assert story.instance_of(story.running("train")[0]) == home
        assert {entry["how"] for entry in story.told("podGone")} == {"exited after SIGTERM"}
        quiet = story.cloud.timeline.at()
        story.cloud.run(900)
        for kind in ("terminate", "createFleet", "evict"):
            assert story.told(kind, quiet) == [], story.tail()
