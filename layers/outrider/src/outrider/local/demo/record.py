"""What the demo remembers of a run: values that the closing table and the report are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class NodeLife:
    """One instance from launch to its end; times are seconds on the clock, None until reached."""

    instance: str
    instance_type: str
    zone: str
    capacity_type: str
    node_pool: str
    price_per_hour: float
    launched: float
    node: str = ""
    joined: float | None = None
    ready: float | None = None
    initialized: float | None = None
    interrupted: float | None = None
    draining: float | None = None
    gone: float | None = None
    seeded: bool = False


@dataclass(slots=True)
class PodLife:
    """One pod; `gone` with `how` where it was evicted, deleted or finished."""

    key: str
    created: float
    bound: float | None = None
    running: float | None = None
    gone: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that a reader should see on every time axis."""

    at: float
    label: str
    tone: str = "info"  # info | good | bad


@dataclass(frozen=True, slots=True)
class Sample:
    """The cluster at one moment: pods by state, nodes, and what they cost."""

    at: float
    pending: int
    starting: int
    running: int
    nodes: int
    price_per_hour: float


@dataclass(frozen=True, slots=True)
class PackedPod:
    """A pod on a node: its workload gives it a colour, its requests their share of the node."""

    name: str
    workload: str
    milli_cpu: int
    memory_bytes: int
    gpus: int


@dataclass(frozen=True, slots=True)
class PackedNode:
    """One node as a picture: what it holds, what is on it."""

    name: str
    instance_type: str
    node_pool: str
    capacity_type: str
    zone: str
    price_per_hour: float
    milli_cpu: int
    memory_bytes: int
    gpus: int
    pods: tuple[PackedPod, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """How long one stage of a pod's or node's way took: median and 95th percentile, in seconds."""

    name: str
    count: int
    median: float
    p95: float


@dataclass(slots=True)
class Record:
    """A whole run."""

    title: str
    nodes: dict[str, NodeLife] = field(default_factory=dict)
    pods: dict[str, PodLife] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    packing: tuple[PackedNode, ...] = ()
    stages: tuple[Stage, ...] = ()
    first_fit_per_hour: float | None = None
    plan_per_hour: float | None = None
    lower_bound_per_hour: float | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    decisions: list[tuple[float, str, str]] = field(default_factory=list)

    @property
    def end(self) -> float:
        """Return the last moment that was seen."""
        return self.samples[-1].at if self.samples else 0.0
