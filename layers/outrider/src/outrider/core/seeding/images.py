"""Images as registries and pods name them: references, digests, sizes.

A reference is what a pod writes (`host/repository:tag`, `host/repository@sha256:…`); a digest is
what it means now. Sizes are the manifest's, that is compressed; what an image takes on disk is an
estimate by the factor that large CUDA images show. Refuses to ask a registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UNPACKED_FACTOR = 2.15  # 9.5 GB compressed were 20.4 GB on disk: a PyTorch 24.08 image

_REFERENCE = re.compile(
    r"^(?P<repository>[^@]+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]+))?$"
)


@dataclass(frozen=True, slots=True)
class Image:
    """One image as a registry describes it: its digest, its size, who can run it."""

    reference: str
    digest: str
    compressed_bytes: int
    architectures: tuple[str, ...]

    @property
    def unpacked_bytes(self) -> int:
        """Return an estimate of what the image takes on disk."""
        return int(self.compressed_bytes * UNPACKED_FACTOR)


def repository(reference: str) -> str:
    """Return an image reference without its tag and digest."""
    match = _REFERENCE.match(reference)
    return match["repository"] if match else reference


def canonical(reference: str) -> tuple[str, str]:
    """Return (repository, tag) as containerd keeps *reference*; no tag where it names a digest."""
    name, _, digest = reference.partition("@")
    head, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in head or ":" in head or head == "localhost"):
        name = f"docker.io/{name}"
    path, _, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{path}/{last}", "" if digest else tag or "latest"


def digest_in(reference: str) -> str:
    """Return the digest that *reference* itself names; "" where it names a tag."""
    return reference.partition("@")[2]


def same_image(reference: str, named: str) -> bool:
    """Return whether *reference* is the image *named* `repository[:tag|@digest]`."""
    own, other = repository(reference), repository(named)
    if own != other and not own.endswith("/" + other):
        return False
    rest = named[len(other) :]
    return not rest or reference[len(own) :] == rest or reference.endswith(rest)
