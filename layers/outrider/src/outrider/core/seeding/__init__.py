"""Seeds: EBS snapshots that hold unpacked images, so that a node starts without pulling them.

`decide` says which images deserve one, `estimate` what each way of getting an image costs in time
and money, `best_seed` which one serves a launch, `garbage` what is no longer wanted.
"""

from outrider.core.seeding.images import Image, repository, same_image
from outrider.core.seeding.seed import (
    SNAPSHOTTER,
    Seed,
    State,
    best_seed,
    moved,
    seed_key,
    superseded,
    volume_gib,
)

__all__ = [
    "SNAPSHOTTER",
    "Image",
    "Seed",
    "State",
    "best_seed",
    "moved",
    "repository",
    "same_image",
    "seed_key",
    "superseded",
    "volume_gib",
]
