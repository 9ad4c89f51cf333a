"""Signals: every EventBridge message that outrider reads, as one discriminated union.

`parse` is the only door, and nothing gets past it: what is no JSON, too large, of an unknown kind,
or of a known kind with fields that do not hold comes back as `Unknown` with a one-word reason. A
caller counts it and acknowledges it; what cannot be read now cannot be read later either.

The shapes are those that AWS sends, not all of which it documents alike, so each kind lists every
spelling of its detail-type. Ids are read from `detail`, never from `resources`: AWS's own samples
of the Spot events carry malformed ARNs there. AWS Health writes dates as RFC 1123, everything else
as RFC 3339. Refuses to know what any of them means for a node (`core.interruption`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

LARGEST = 256 * 1024  # EventBridge and SQS carry no more; a larger body did not come from them
SPOT_NOTICE = timedelta(seconds=120)
BLOCK_NOTICE = timedelta(minutes=30)  # EC2 begins to terminate so long before a block's end date


def _instant(value: object) -> object:
    """Return *value* as an aware instant where it is one of the two spellings that AWS uses."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if not isinstance(value, str):
        raise ValueError("not a date")  # noqa: TRY004 - pydantic collects ValueError
    text = value.strip()
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        try:
            parsed = parsedate_to_datetime(text)
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError("not a date") from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


Instant = Annotated[datetime, BeforeValidator(_instant)]
InstanceId = Annotated[str, Field(pattern=r"^i-[0-9a-f]{8,17}$")]
ReservationId = Annotated[str, Field(pattern=r"^cr-[0-9a-f]{8,17}$")]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


class Detail(BaseModel):
    """A message's `detail`; its names have dashes in most EC2 events."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=_dashed, populate_by_name=True
    )


class Message(BaseModel):
    """What every EventBridge message has."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    spellings: ClassVar[tuple[tuple[str, str], ...]] = ()

    id: str = Field(min_length=1)
    source: str
    detail_type: str = Field(alias="detail-type")
    account: str = ""
    region: str = ""
    time: Instant

    @property
    def kind(self) -> str:
        """Return the kind's name, for logs and metrics."""
        return type(self).__name__

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """Return the instances that the message speaks of."""
        return ()


class InstanceDetail(Detail):
    """A detail that names one instance."""

    instance_id: InstanceId


class WarningDetail(InstanceDetail):
    """A detail that says what will be done to the instance."""

    instance_action: Literal["terminate", "stop", "hibernate"] = "terminate"


class SpotInterruption(Message):
    """EC2 takes a Spot instance back, in two minutes; a hibernation begins at once."""

    spellings = (("aws.ec2", "EC2 Spot Instance Interruption Warning"),)
    detail: WarningDetail

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """Return the one instance."""
        return (self.detail.instance_id,)

    @property
    def deadline(self) -> datetime:
        """Return when the instance stops."""
        return self.time + SPOT_NOTICE * (self.detail.instance_action != "hibernate")


class ReservationWarningDetail(WarningDetail):
    """The detail of a reservation's interruption, which names the moment."""

    instance_termination_time: Instant | None = None
    az_id: str = Field("", alias="azId")


class ReservationInterruption(Message):
    """The owner of an interruptible capacity reservation wants the instance's capacity back."""

    spellings = (
        ("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"),
        ("aws.ec2", "EC2 Interruptible Capacity Reservation Instance Interruption Warning"),
    )
    detail: ReservationWarningDetail

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """Return the one instance."""
        return (self.detail.instance_id,)

    @property
    def deadline(self) -> datetime:
        """Return when the instance is terminated."""
        return self.detail.instance_termination_time or self.time + SPOT_NOTICE


class Rebalance(Message):
    """A Spot instance is at elevated risk of interruption."""

    spellings = (
        ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
        ("aws.ec2", "EC2 Spot Instance Rebalance Recommended"),
    )
    detail: InstanceDetail

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """Return the one instance."""
        return (self.detail.instance_id,)


InstanceState = Literal["pending", "running", "stopping", "stopped", "shutting-down", "terminated"]


class StateDetail(InstanceDetail):
    """A detail that names an instance and its new state, exactly as EC2 spells it."""

    state: Annotated[
        InstanceState,
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ]


class StateChange(Message):
    """An instance went from one state to the next."""

    spellings = (("aws.ec2", "EC2 Instance State-change Notification"),)
    detail: StateDetail

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """Return the one instance."""
        return (self.detail.instance_id,)


class Entity(BaseModel):
    """One resource that an AWS Health event affects."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    value: str = Field(alias="entityValue")
    status: str = ""


class HealthDetail(BaseModel):
    """An AWS Health event: backup copies and pages of one share `communicationId`."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    event_arn: str = Field("", alias="eventArn")
    service: str = ""
    code: str = Field("", alias="eventTypeCode")
    category: str = Field("", alias="eventTypeCategory")
    communication_id: str = Field("", alias="communicationId")
    starts: Instant | None = Field(None, alias="startTime")
    ends: Instant | None = Field(None, alias="endTime")
    status_code: str = Field("", alias="statusCode")
    event_region: str = Field("", alias="eventRegion")
    entities: tuple[Entity, ...] = Field((), alias="affectedEntities")
    page: str = "1"


class ScheduledChange(Message):
    """AWS Health: maintenance, retirement, reboot or stop of instances at a known time."""

    spellings = (("aws.health", "AWS Health Event"),)
    detail: HealthDetail

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """Return every affected instance, each once."""
        values = (entity.value.rpartition("/")[2] for entity in self.detail.entities)
        return tuple(dict.fromkeys(value for value in values if value.startswith("i-")))

    @property
    def concerns_instances(self) -> bool:
        """Return whether this is EC2's scheduledChange; Health sends much else on the same rule."""
        return self.detail.service == "EC2" and self.detail.category == "scheduledChange"

    @property
    def called_off(self) -> bool:
        """Return whether the change will not happen, or is over."""
        return self.detail.status_code == "closed"

    @property
    def impacted_region(self) -> str:
        """Return the region that the event speaks of; `region` is where it was delivered."""
        return self.detail.event_region or self.region

    @property
    def copy_key(self) -> str:
        """Return what all deliveries of this page have in common."""
        return f"{self.account}/{self.detail.communication_id or self.id}/{self.detail.page}"


class BlockDetail(Detail):
    """A capacity block's reservation and its end."""

    capacity_reservation_id: ReservationId
    end_date: Instant | None = None


class BlockExpiry(Message):
    """A capacity block ends soon: EC2 terminates its instances from 30 minutes before that on."""

    spellings = (
        ("aws.ec2", "Capacity Block Expiration Warning"),
        ("aws.ec2", "Capacity Block Reservation Expiration Warning"),
    )
    detail: BlockDetail

    @property
    def deadline(self) -> datetime:
        """Return when EC2 begins to terminate; the warning itself comes ten minutes before that."""
        ends = self.detail.end_date
        return ends - BLOCK_NOTICE if ends else self.time + timedelta(minutes=10)


_RESERVATION_STATES = (
    "Active",
    "Cancelled",
    "Delayed",
    "Expired",
    "Failed",
    "Scheduled",
    "Unsupported",
)


class ReservationChange(Message):
    """A capacity reservation changed: what is for sale has to be looked at again."""

    spellings = (
        *(("aws.ec2", f"EC2 Capacity Reservation {state}") for state in _RESERVATION_STATES),
        ("aws.ec2", "Capacity Block Delivered"),
        ("aws.ec2", "Capacity Block Reservation Delivered"),
        (
            "aws.ec2",
            "EC2 Interruptible Capacity Reservation Allocation Reclamation Completed",
        ),
        ("aws.ec2", "EC2 Capacity Reservation Interruptible Reclamation Complete"),
    )
    detail: Mapping[str, Any]


class ImageDetail(Detail):
    """What happened to which image of a repository."""

    result: str = ""
    repository_name: str
    image_digest: str = ""
    action_type: str = ""
    image_tag: str = ""


class ImageAction(Message):
    """ECR: an image was pushed, or deleted."""

    spellings = (("aws.ecr", "ECR Image Action"),)
    detail: ImageDetail


class ExecutionDetail(BaseModel):
    """The end, or the beginning, of one Step Functions execution."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    execution_arn: str = Field(alias="executionArn")
    machine_arn: str = Field(alias="stateMachineArn")
    name: str = ""
    status: str
    input: str | None = None


class ExecutionStatus(Message):
    """One of our state machines ended; TIMED_OUT and ABORTED ran no Catch."""

    spellings = (("aws.states", "Step Functions Execution Status Change"),)
    detail: ExecutionDetail


class HintDetail(Detail):
    """Which cluster to look at."""

    cluster: str = ""


class PodUnschedulable(Message):
    """Our own hint: some pod found no node. It carries nothing else on purpose."""

    spellings = (("outrider.hints", "PodUnschedulable"),)
    detail: HintDetail


class ImpairedDetail(Detail):
    """A bad status check or a scheduled event, as the sweep read it."""

    instance_id: InstanceId
    what: str
    since: Instant | None = None
    not_before: Instant | None = None
    forced: bool = False


class InstanceImpaired(Message):
    """What DescribeInstanceStatus says of an instance; made by the sweep, sent by nobody."""

    spellings = (("outrider.sweep", "InstanceImpaired"),)
    detail: ImpairedDetail

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """Return the one instance."""
        return (self.detail.instance_id,)


class Unknown(BaseModel):
    """A message that says nothing to us, and why."""

    model_config = ConfigDict(frozen=True)

    reason: Literal["NotJson", "TooLarge", "UnknownKind", "BadFields"]
    problem: str = ""

    @property
    def kind(self) -> str:
        """Return the kind's name, for logs and metrics."""
        return "Unknown"

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """Return none: nothing in it can be relied on."""
        return ()


_KINDS: tuple[type[Message], ...] = (
    SpotInterruption,
    ReservationInterruption,
    Rebalance,
    StateChange,
    ScheduledChange,
    BlockExpiry,
    ReservationChange,
    ImageAction,
    ExecutionStatus,
    PodUnschedulable,
    InstanceImpaired,
)
_TAGS: Mapping[tuple[str, str], str] = {
    spelling: kind.__name__ for kind in _KINDS for spelling in kind.spellings
}


def _tag(message: object) -> str | None:
    if not isinstance(message, Mapping):
        return None
    source, detail_type = message.get("source"), message.get("detail-type")
    if not isinstance(source, str) or not isinstance(detail_type, str):
        return None
    return _TAGS.get((source, detail_type))


Event = Annotated[
    Annotated[SpotInterruption, Tag("SpotInterruption")]
    | Annotated[ReservationInterruption, Tag("ReservationInterruption")]
    | Annotated[Rebalance, Tag("Rebalance")]
    | Annotated[StateChange, Tag("StateChange")]
    | Annotated[ScheduledChange, Tag("ScheduledChange")]
    | Annotated[BlockExpiry, Tag("BlockExpiry")]
    | Annotated[ReservationChange, Tag("ReservationChange")]
    | Annotated[ImageAction, Tag("ImageAction")]
    | Annotated[ExecutionStatus, Tag("ExecutionStatus")]
    | Annotated[PodUnschedulable, Tag("PodUnschedulable")]
    | Annotated[InstanceImpaired, Tag("InstanceImpaired")],
    Discriminator(_tag),
]
Signal = (
    SpotInterruption
    | ReservationInterruption
    | Rebalance
    | StateChange
    | ScheduledChange
    | BlockExpiry
    | ReservationChange
    | ImageAction
    | ExecutionStatus
    | PodUnschedulable
    | InstanceImpaired
    | Unknown
)

_adapter: TypeAdapter[Event] = TypeAdapter(Event, config=ConfigDict(defer_build=True))


def parse(message: Mapping[str, Any] | str | bytes) -> Signal:
    """Return the signal that *message*, an EventBridge event or the text of one, carries."""
    opened = _open(message) if isinstance(message, str | bytes) else message
    if isinstance(opened, Unknown):
        return opened
    if not isinstance(opened, Mapping):
        return Unknown(reason="NotJson", problem="not an object")
    if _tag(opened) is None:
        said = f"{opened.get('source')!s} / {opened.get('detail-type')!s}"
        return Unknown(reason="UnknownKind", problem=said[:200])
    try:
        return _adapter.validate_python(opened)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return Unknown(reason="BadFields", problem=f"{where}: {first['msg']}"[:200])
    except (OverflowError, RecursionError) as error:  # a date beyond the calendar; nested too deep
        return Unknown(reason="BadFields", problem=str(error)[:200])


def _open(text: str | bytes) -> Any:
    """Return the JSON value of *text*, or why there is none."""
    if len(text) > LARGEST:
        return Unknown(reason="TooLarge", problem=f"{len(text)} bytes")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return Unknown(reason="NotJson", problem=str(error)[:200])
