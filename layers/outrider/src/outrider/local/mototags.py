"""moto's tags of one EC2 resource, looked up by its id.

moto searches the tags of the whole account with a regular expression for each resource that it
describes: a hundred instances with ten tags and as many volumes and interfaces make every
DescribeInstances a search through half a million. Same answer, without the search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def install() -> Callable[[], None]:
    """Look tags up from now on; return what undoes it."""
    from moto.ec2.models.core import TaggedEC2Resource
    from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix

    original = TaggedEC2Resource.get_tags

    def get_tags(self: Any) -> list[dict[str, str]]:
        held = self.ec2_backend.tags.get(self.id) if self.id else None
        if not held:
            return []
        kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(self.id), "")
        return [
            {"resource_id": self.id, "key": key, "value": value, "resource_type": kind}
            for key, value in tuple(held.items())  # tags may come while the clock looks
        ]

    TaggedEC2Resource.get_tags = get_tags

    def undo() -> None:
        TaggedEC2Resource.get_tags = original

    return undo
