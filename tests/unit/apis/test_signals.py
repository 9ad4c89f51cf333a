"""What EventBridge brings: every shipped payload is understood, and nothing gets past the door."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outrider.apis import signals
from outrider.apis.signals import Unknown, parse

EVENTS = Path(__file__).parents[3] / "events"
SPOT: dict[str, Any] = {
    "version": "0",
    "id": "1",
    "detail-type": "EC2 Spot Instance Interruption Warning",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2026-03-02T14:00:00Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1b:instance/i-ffffffffffffffff0"],
    "detail": {"instance-id": "i-0b662ef9931388ba0", "instance-action": "terminate"},
}


def changed(**changes: Any) -> dict[str, Any]:
    """Return the Spot warning with some fields replaced; None leaves one out."""
    event = {**SPOT, **changes}
    return {key: value for key, value in event.items() if value is not None}


@pytest.mark.parametrize("path", sorted(EVENTS.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_payloads_are_understood(path: Path) -> None:
    """Every payload under events/ that is no tick is a known kind."""
    event = json.loads(path.read_text())
    signal = parse(event)
    if event.get("source") == "outrider.ticks":
        assert signal == Unknown(reason="UnknownKind", problem=signal.problem)  # type: ignore[union-attr]
    else:
        assert not isinstance(signal, Unknown), signal


def test_spot_warning_ends_after_two_minutes() -> None:
    """A Spot warning's deadline is two minutes after its time; the id comes from detail."""
    signal = parse(SPOT)
    assert isinstance(signal, signals.SpotInterruption)
    assert signal.instance_ids == ("i-0b662ef9931388ba0",)
    assert signal.deadline == datetime(2026, 3, 2, 14, 2, tzinfo=UTC)


def test_hibernation_leaves_no_time() -> None:
    """Hibernation begins at once."""
    detail = {"instance-id": "i-0b662ef9931388ba0", "instance-action": "hibernate"}
    signal = parse(changed(detail=detail))
    assert isinstance(signal, signals.SpotInterruption)
    assert signal.deadline == signal.time


@pytest.mark.parametrize(
    "detail_type",
    [
        "EC2 Capacity Reservation Instance Interruption Warning",
        "EC2 Interruptible Capacity Reservation Instance Interruption Warning",
    ],
)
def test_reservation_warning_has_two_spellings(detail_type: str) -> None:
    """Both detail-types that AWS documents are one kind, and the stated moment is the deadline."""
    detail = {
        "instance-id": "i-0aa11bb22cc33dd44",
        "instance-action": "terminate",
        "instance-termination-time": "2026-03-02T14:01:30Z",
        "azId": "use1-az1",
    }
    signal = parse(changed(**{"detail-type": detail_type, "detail": detail}))
    assert isinstance(signal, signals.ReservationInterruption)
    assert signal.deadline == datetime(2026, 3, 2, 14, 1, 30, tzinfo=UTC)


def test_health_dates_are_rfc_1123() -> None:
    """AWS Health's own way of writing dates is read, and every entity is named once."""
    detail = {
        "service": "EC2",
        "eventTypeCategory": "scheduledChange",
        "startTime": "Mon, 16 Mar 2026 15:00:00 GMT",
        "affectedEntities": [
            {"entityValue": "i-0b662ef9931388ba0"},
            {"entityValue": "i-0b662ef9931388ba0"},
            {"entityValue": "arn:aws:ec2:us-east-1:1:instance/i-0c11aa22bb33cc44d"},
            {"entityValue": "vol-1"},
        ],
    }
    signal = parse(
        changed(**{"source": "aws.health", "detail-type": "AWS Health Event", "detail": detail})
    )
    assert isinstance(signal, signals.ScheduledChange)
    assert signal.detail.starts == datetime(2026, 3, 16, 15, tzinfo=UTC)
    assert signal.instance_ids == ("i-0b662ef9931388ba0", "i-0c11aa22bb33cc44d")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "NotJson"),
        ("[]", "NotJson"),
        (b"\xff\xfe", "NotJson"),
        ("[" * 100_000, "NotJson"),
        ("x" * 1_000_000, "TooLarge"),
        ({}, "UnknownKind"),
        (changed(source=7), "UnknownKind"),
        (changed(**{"detail-type": "EC2 Fleet State Change"}), "UnknownKind"),
        (changed(detail=None), "BadFields"),
        (changed(detail={}), "BadFields"),
        (changed(detail={"instance-id": "i-"}), "BadFields"),
        (changed(detail={"instance-id": None}), "BadFields"),
        (changed(time="yesterday"), "BadFields"),
        (changed(time=None), "BadFields"),
        (changed(time="99999-01-01T00:00:00Z"), "BadFields"),
    ],
)
def test_nothing_gets_past_the_door(message: Any, reason: str) -> None:
    """What says nothing comes back as Unknown with its reason, whatever it is."""
    signal = parse(message)
    assert isinstance(signal, Unknown)
    assert signal.reason == reason


@pytest.mark.parametrize("state", ["", "stop", "down", "ing", None, 3])
def test_a_state_is_one_of_ec2s(state: Any) -> None:
    """A state that EC2 does not know moves nothing, substrings of known ones included."""
    event = changed(
        **{
            "detail-type": "EC2 Instance State-change Notification",
            "detail": {"instance-id": "i-0b662ef9931388ba0", "state": state},
        }
    )
    assert isinstance(parse(event), Unknown)
