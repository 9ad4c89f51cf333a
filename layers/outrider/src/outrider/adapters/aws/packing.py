"""How large values lie in DynamoDB: compressed, in chunks, seeds as rows.

An item may have 400 KB; chunks stop at 350 to leave room for keys. Compression is zlib's, which
needs no further library in the layer. Refuses to know the table.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from outrider.core.seeding import Seed
from outrider.core.seeding.estimate import INITIALIZATION_RATE, WarmUp

CHUNK = 350_000
LEVEL = 6


def packed(content: bytes) -> bytes:
    """Return *content* compressed."""
    return zlib.compress(content, LEVEL)


def unpacked(content: bytes) -> bytes:
    """Return what `packed` was given."""
    return zlib.decompress(content)


def split(content: bytes) -> tuple[bytes, ...]:
    """Return *content* compressed and cut into chunks of at most 350 KB."""
    whole = packed(content)
    return tuple(whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK))


def joined(chunks: Iterable[bytes]) -> bytes:
    """Return what `split` was given."""
    return unpacked(b"".join(chunks))


def seed_row(seed: Seed) -> dict[str, Any]:
    """Return a seed as attributes of its row."""
    return {
        "arch": seed.arch,
        "family": seed.family,
        "images": dict(seed.images),
        "bytes": dict(seed.image_bytes),
        "snapshotter": seed.snapshotter,
        "snapshot": seed.snapshot_id,
        "gib": seed.volume_gib,
        "state": str(seed.state),
        "classes": list(seed.node_classes),
        "created": seed.created.isoformat() if seed.created else "",
        "retired": seed.retired.isoformat() if seed.retired else "",
        "used": seed.used.isoformat() if seed.used else "",
        "warm_up": seed.warm_up,
        "rate": seed.rate,
        "zones": list(seed.zones),
        "reason": seed.reason,
    }


def seed(row: Mapping[str, Any]) -> Seed:
    """Return the seed in a row."""
    return Seed(
        key=str(row["sk"]),
        arch=str(row["arch"]),
        family=str(row["family"]),
        images={str(name): str(digest) for name, digest in row["images"].items()},
        image_bytes={str(name): int(size) for name, size in row["bytes"].items()},
        snapshotter=str(row["snapshotter"]),
        snapshot_id=str(row["snapshot"]),
        volume_gib=int(row["gib"]),
        state=str(row["state"]),
        node_classes=tuple(row["classes"]),
        created=_time(row["created"]),
        retired=_time(row["retired"]),
        used=_time(row.get("used")),
        reason=str(row["reason"]),
        warm_up=str(row.get("warm_up", WarmUp.RATE)),
        rate=int(row.get("rate", INITIALIZATION_RATE)),
        zones=tuple(row.get("zones", ())),
    )


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None
