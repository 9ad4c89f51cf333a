"""How the nodes of an EC2NodeClass share their GPUs: the annotation `outrider.dev/gpu-sharing`.

NVIDIA's device plugin advertises more than a node has where it time-slices, serves MPS or splits
GPUs with MIG. That is configured in the cluster, by the plugin's ConfigMap and node labels; EC2
cannot know it. The annotation says it to the planner, in words separated by commas:

    time-slicing=4              every NVIDIA device counts as four nvidia.com/gpu
    mps=4                       the same, through MPS
    time-slicing=4,renamed      … as four nvidia.com/gpu.shared (the plugin's renameByDefault)
    mig=1g.10gb                 strategy single: each GPU is as many nvidia.com/gpu as have room
    mig=1g.10gb,time-slicing=2  … each of them twice
    mig=1g.10gb*2+3g.40gb*1     strategy mixed: nvidia.com/mig-1g.10gb: 2 and nvidia.com/mig-3g.40gb
                                of every GPU, and no nvidia.com/gpu

Decides whether the words make sense, with NVIDIA's table of profiles by GPU. A GPU without the
profile cannot be split so: it counts as nothing, not as whole. Refuses to know instance types:
`core.catalog.sharing` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from outrider.apis.labels import GPU_SHARING
from outrider.errors import InvalidManifest

MOST_REPLICAS = 128
_PROFILE = r"[1-7]g\.[0-9]{1,3}gb"
_SINGLE = re.compile(rf"^{_PROFILE}$")
_PART = re.compile(rf"^({_PROFILE})\*([1-9][0-9]?)$")


@dataclass(frozen=True, slots=True)
class Profile:
    """One MIG profile: its slices of compute and memory, and how often a GPU holds it alone."""

    compute: int
    memory: int
    instances: int


@dataclass(frozen=True, slots=True)
class Splits:
    """What one GPU model can be split into."""

    profiles: Mapping[str, Profile]
    compute: int = 7
    memory: int = 8

    def holds(self, parts: Iterable[tuple[str, int]]) -> bool:
        """Return whether all of *parts* (profile, count) fit on one GPU together."""
        compute = memory = 0
        for name, count in parts:
            profile = self.profiles.get(name)
            if profile is None or count > profile.instances:
                return False
            compute += profile.compute * count
            memory += profile.memory * count
        return compute <= self.compute and memory <= self.memory


def _splits(quarter: str, half: str, full: str, small: str) -> Splits:
    """Return the splits of a GPU of seven slices, by the memory in its profiles' names."""
    return Splits(
        {
            f"1g.{small}gb": Profile(1, 1, 7),
            f"1g.{quarter}gb": Profile(1, 2, 4),
            f"2g.{quarter}gb": Profile(2, 2, 3),
            f"3g.{half}gb": Profile(3, 4, 2),
            f"4g.{half}gb": Profile(4, 4, 1),
            f"7g.{full}gb": Profile(7, 8, 1),
        }
    )


SPLITS: Mapping[tuple[str, int], Splits] = {
    ("a100", 40): _splits(small="5", quarter="10", half="20", full="40"),
    ("a100", 80): _splits(small="10", quarter="20", half="40", full="80"),
    ("h100", 80): _splits(small="10", quarter="20", half="40", full="80"),
    ("h200", 141): _splits(small="18", quarter="35", half="71", full="141"),
    ("b200", 179): _splits(small="23", quarter="45", half="90", full="180"),
    ("b300", 268): _splits(small="34", quarter="67", half="135", full="269"),
    ("rtx-pro-server-6000", 96): Splits(
        {
            "1g.24gb": Profile(1, 1, 4),
            "1g.48gb": Profile(1, 2, 2),
            "2g.48gb": Profile(2, 2, 2),
            "4g.96gb": Profile(4, 4, 1),
        },
        compute=4,
        memory=4,
    ),
}
"""GPU model (as in the label instance-gpu-name) and GiB as EC2 counts them -> its splits, from the
MIG User Guide, "Supported MIG Profiles"."""


@dataclass(frozen=True, slots=True)
class GpuSharing:
    """What becomes of one NVIDIA GPU on the nodes of a class."""

    replicas: int = 1
    renamed: bool = False
    single: str = ""
    mixed: tuple[tuple[str, int], ...] = ()

    @property
    def splits(self) -> bool:
        """Return whether GPUs are split with MIG."""
        return bool(self.single or self.mixed)


def splits_of(model: str, memory_mib: int) -> Splits | None:
    """Return what a GPU *model* with *memory_mib* can be split into; None where MIG has nothing."""
    return SPLITS.get((model, memory_mib // 1024))


def of(annotations: Mapping[str, str]) -> GpuSharing | None:
    """Return what *annotations* say about sharing; None where they say nothing."""
    text = annotations.get(GPU_SHARING)
    if text is None:
        return None
    try:
        return parse(text)
    except InvalidManifest as error:
        raise InvalidManifest(error.problem, path=f"metadata.annotations[{GPU_SHARING}]") from None


@lru_cache(maxsize=256)
def parse(text: str) -> GpuSharing:
    """Return the sharing that *text* describes; raise InvalidManifest where it makes no sense."""
    words = [word.strip() for word in text.split(",")]
    named = dict(word.split("=", 1) for word in words if "=" in word)
    bare = [word for word in words if "=" not in word]
    unknown = [*(named.keys() - {"time-slicing", "mps", "mig"}), *(set(bare) - {"renamed"})]
    if unknown or len(named) + len(bare) != len(words):
        problem = f"{unknown[0]!r} is not known" if unknown else "says something twice"
        raise InvalidManifest(f"{problem}: use time-slicing=N, mps=N, mig=PROFILE, renamed")
    if "time-slicing" in named and "mps" in named:
        raise InvalidManifest("time-slicing and mps exclude each other")
    replicas = _replicas(named.get("time-slicing", named.get("mps", "1")))
    if bare and replicas == 1:
        raise InvalidManifest("renamed goes with time-slicing or mps")
    single, mixed = _split(named["mig"]) if "mig" in named else ("", ())
    if mixed and replicas > 1:
        raise InvalidManifest("mixed profiles are not shared further: leave out time-slicing")
    return GpuSharing(replicas, bool(bare), single, mixed)


def _replicas(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_REPLICAS):
        raise InvalidManifest(f"{text[:64]!r} is not a number from 1 to {MOST_REPLICAS}")
    return int(text)


def _split(text: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    if _SINGLE.match(text):
        _known(((text, 1),))
        return text, ()
    parts = []
    for part in text.split("+"):
        match = _PART.match(part)
        if match is None:
            raise InvalidManifest(
                f"{part[:64]!r} is no MIG profile: use 1g.10gb, or 1g.10gb*2+3g.40gb*1 for mixed"
            )
        parts.append((match[1], int(match[2])))
    if len({name for name, _ in parts}) < len(parts):
        raise InvalidManifest("names a MIG profile twice")
    _known(parts)
    return "", tuple(sorted(parts))


def _known(parts: Iterable[tuple[str, int]]) -> None:
    """Refuse *parts* that no GPU holds together."""
    wanted = tuple(parts)
    if not any(splits.holds(wanted) for splits in SPLITS.values()):
        said = " and ".join(f"{count} x {name}" for name, count in wanted)
        raise InvalidManifest(f"no GPU of EC2 can be split into {said}")
