"""Golden plans: review the diff of a plan, not of code.

`STORY.in.yaml` holds manifests, `STORY.STRATEGY.plan.yaml` its plans over the small family of
tests/support/builders. `pytest --update-golden` writes the plans anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.expect import planned

FOLDER = Path(__file__).parent
STORIES = sorted(path.name.removesuffix(".in.yaml") for path in FOLDER.glob("*.in.yaml"))


@pytest.mark.parametrize("strategy", ["cost", "first-fit"])
@pytest.mark.parametrize("story", STORIES)
def test_plan_is_what_was_read(story: str, strategy: str, update_golden: bool) -> None:
    """The plan of a story is the one that was reviewed."""
    documents = yaml.safe_load_all((FOLDER / f"{story}.in.yaml").read_text())
    answer = planned(*documents, strategy=strategy).json
    path = FOLDER / f"{story}.{strategy}.plan.yaml"
    text = yaml.safe_dump(answer, sort_keys=False)
    if update_golden:
        path.write_text(text)
    assert text == path.read_text()
