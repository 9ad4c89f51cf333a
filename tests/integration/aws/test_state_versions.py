"""Rows of the release before and of the next one: read, and never misread."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from outrider.adapters.aws.ledger import Ledger
from outrider.adapters.aws.session import Session
from outrider.adapters.aws.table import Table, marshal, stamp
from outrider.core.records import Debt, Instance, Intent, Reaction
from outrider.core.seeding import Seed, State
from outrider.core.stateversion import VERSION
from outrider.errors import StateTooNew
from tests.integration.aws.conftest import Clock
from tests.support.account import TABLE

pytestmark = pytest.mark.integration
POOL = ("g6.xlarge", "us-east-1a", "spot")
FOREIGN = {"fromTheFuture": {"nested": ["values"]}}


@pytest.fixture
def table(session: Session) -> Table:
    """The ledger's table, row by row."""
    return Table(session, TABLE)


def raw(table: Table) -> list[dict[str, Any]]:
    """Return every item as it lies in DynamoDB."""
    found: list[dict[str, Any]] = table.client.scan(TableName=TABLE)["Items"]
    return found


def everything(ledger: Ledger, clock: Clock) -> Any:
    """Write a row of every kind that a function leaves for another; return what reads them."""
    soon = clock.now() + timedelta(minutes=5)
    lease = ledger.acquire("a", 45)
    assert lease is not None
    call = {"call": {"ClientToken": "t"}}
    intent = ledger.intend(Intent("d", "t", "gpu", ("gpu-1",), call), lease)
    instance = Instance("i-1", "g6.xlarge", "us-east-1a", "spot", "running", clock.now())
    ledger.record_instance(instance, "gpu-1", "d")
    reaction = Reaction("i-1", "SpotInterruption", "d", soon, ("gpu-2",), node="n", at=clock.now())
    ledger.react(reaction)
    ledger.mark([POOL], clock.now())
    ledger.flag("waiting", soon)
    ledger.once("event", soon)
    ledger.defer("i-2", clock.now())
    debt = Debt("i-1", "k", {"type": "PodEvicted", "detail": {}}, clock.now())
    ledger.owe(debt)
    seed = Seed(
        "ds-1",
        "amd64",
        "al2023",
        {"a:1": "sha256:1"},
        {"a:1": 1},
        "overlayfs",
        "snap-1",
        20,
        State.READY.value,
    )
    ledger.put_seed(seed)
    ledger.lock_seed("ds-2", "builder", 60)

    def read() -> tuple[Any, ...]:
        return (
            ledger.intents(),
            tuple(ledger.ours(["i-1"])),
            ledger.reactions(),
            ledger.unavailable(clock.now()),
            ledger.flagged("waiting", clock.now()),
            ledger.once("event", soon),
            ledger.deferred(),
            ledger.owed("i-1"),
            ledger.seeds(),
            ledger.seed_locks(),
        )

    assert read()[:3] == ((intent,), ("i-1",), (reaction,))
    assert read()[7:9] == ((debt,), (seed,))
    return read


def test_every_row_says_its_version(ledger: Ledger, table: Table, clock: Clock) -> None:
    """Whole rows, changed rows and rows of a transaction alike."""
    everything(ledger, clock)
    ledger.settle(ledger.intents()[0])
    ledger.pay(ledger.owed("i-1"))
    found = raw(table)
    assert len({item["pk"]["S"] for item in found}) >= 10
    assert [item for item in found if item.get("v") != {"N": str(VERSION)}] == []


def test_rows_from_before_there_were_versions_are_read(
    ledger: Ledger, table: Table, clock: Clock
) -> None:
    """A deploy finds rows without a version, and reads them as its own."""
    read = everything(ledger, clock)
    before = read()
    for item in raw(table):
        item.pop("v")
        table.client.put_item(TableName=TABLE, Item=item)
    assert read() == before


def test_rows_of_the_next_release_are_read(ledger: Ledger, table: Table, clock: Clock) -> None:
    """An alias that is rolled back finds a newer version and unknown attributes: neither hurts."""
    read = everything(ledger, clock)
    before = read()
    for item in raw(table):
        newer = {**item, **marshal({**FOREIGN, "v": VERSION + 1})}
        table.client.put_item(TableName=TABLE, Item=newer)
    assert read() == before
    lease = ledger.acquire("a", 45)
    assert lease is not None
    assert lease.token > 1


def test_a_reaction_of_the_first_days_is_read(ledger: Ledger, table: Table, clock: Clock) -> None:
    """What was added since has a default, so that its drain goes on."""
    first = {"pk": "reaction", "sk": "i-9", "reason": "Rebalance", "decision": "d"}
    times = {"deadline": stamp(clock.now()), "at": stamp(clock.now())}
    table.client.put_item(TableName=TABLE, Item=marshal({**first, **times}))
    found = ledger.reaction("i-9")
    assert found is not None
    assert (found.decision, found.ended, found.planned, found.replacements) == (
        "d",
        False,
        False,
        (),
    )


def test_two_steps_back_are_refused(ledger: Ledger, table: Table, clock: Clock) -> None:
    """A row that could be misread is named, not guessed at."""
    everything(ledger, clock)
    for item in raw(table):
        if item["pk"]["S"] == "reaction":
            table.client.put_item(TableName=TABLE, Item={**item, "v": {"N": str(VERSION + 2)}})
    with pytest.raises(StateTooNew, match=r"row reaction/i-1 .* roll forward"):
        ledger.reactions()
