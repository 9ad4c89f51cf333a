"""What lies on a volume: the images that a seed builder pulled and that its snapshot carries."""

from __future__ import annotations

from typing import Any


def images_on(thing: Any) -> frozenset[str]:
    """Return the images on a volume or a snapshot."""
    images: frozenset[str] = getattr(thing, "outrider_images", frozenset())
    return images
