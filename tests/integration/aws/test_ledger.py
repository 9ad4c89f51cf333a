"""The ledger's promises, on DynamoDB's own conditions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from outrider.adapters.aws.ledger import Ledger
from outrider.adapters.aws.session import Session
from outrider.core.catalog import price_book
from outrider.core.catalog.bundled import bundled
from outrider.core.catalog.instancetype import Catalog
from outrider.core.records import Debt, Instance, Intent, Reaction
from outrider.core.seeding import Seed, State
from outrider.errors import NotFound, NotHolder
from tests.integration.aws.conftest import Clock
from tests.support.account import TABLE, make_table

pytestmark = pytest.mark.integration
POOL = ("g6.xlarge", "us-east-1a", "spot")


def _intent(token: str = "token-1", **changes: object) -> Intent:
    intent = Intent("d", token, "gpu", ("gpu-1", "gpu-2"), {"call": {"ClientToken": token}})
    return replace(intent, **changes)  # type: ignore[arg-type]


def test_one_holder_at_a_time(ledger: Ledger, clock: Clock) -> None:
    """The lease has one holder until it runs out, and each holder gets a larger token."""
    first = ledger.acquire("a", 45)
    assert first is not None
    assert ledger.acquire("b", 45) is None
    clock.sleep(46)
    second = ledger.acquire("b", 45)
    assert second is not None
    assert second.token > first.token
    ledger.release(first)
    assert ledger.acquire("c", 45) is None
    ledger.release(second)
    assert ledger.acquire("c", 45) is not None


def test_a_holder_may_go_on(ledger: Ledger, clock: Clock) -> None:
    """The holder renews its lease while it works; whoever lost it cannot."""
    held = ledger.acquire("a", 45)
    assert held is not None
    clock.sleep(40)
    ledger.renew(held, 45)
    clock.sleep(40)
    assert ledger.acquire("b", 45) is None
    clock.sleep(6)
    assert ledger.acquire("b", 45) is not None
    with pytest.raises(NotHolder):
        ledger.renew(held, 45)


def test_flags_go_down(ledger: Ledger, clock: Clock) -> None:
    """A flag is up until its time is over or somebody lowers it."""
    ledger.flag("waiting", clock.now() + timedelta(seconds=30))
    assert ledger.flagged("waiting", clock.now())
    assert not ledger.flagged("waiting", clock.now() + timedelta(seconds=31))
    ledger.lower("waiting")
    assert not ledger.flagged("waiting", clock.now())


def test_once_is_once(ledger: Ledger, clock: Clock) -> None:
    """A key is new the first time, and again when its time is over."""
    until = clock.now() + timedelta(minutes=5)
    assert ledger.once("event-1", until)
    assert not ledger.once("event-1", until)
    clock.sleep(301)
    assert ledger.once("event-1", clock.now() + timedelta(minutes=5))


def test_an_intent_is_fenced(ledger: Ledger, clock: Clock) -> None:
    """Whoever lost the lease cannot write an intent, however alive it feels."""
    late = ledger.acquire("a", 1)
    assert late is not None
    clock.sleep(2)
    assert ledger.acquire("b", 45) is not None
    with pytest.raises(NotHolder):
        ledger.intend(_intent(), late)
    assert ledger.intents() == ()


def test_the_standing_intent_wins(ledger: Ledger) -> None:
    """A second write of the same token returns what the first one came to."""
    lease = ledger.acquire("a", 45)
    assert lease is not None
    written = ledger.intend(_intent(), lease)
    ledger.settle(replace(written, state="launched", instances={"gpu-1": "i-1"}))
    standing = ledger.intend(_intent(), lease)
    assert standing.state == "launched"
    assert standing.instances == {"gpu-1": "i-1"}
    assert standing.request == {"call": {"ClientToken": "token-1"}}


def test_intents_by_age_and_end(ledger: Ledger, clock: Clock) -> None:
    """Only those that are asked for come back: since a moment, and where asked, unfinished."""
    lease = ledger.acquire("a", 3600)
    assert lease is not None
    ledger.intend(_intent("old"), lease)
    clock.sleep(600)
    ledger.intend(_intent("open"), lease)
    done = ledger.intend(_intent("done"), lease)
    ledger.settle(replace(done, state="launched"))

    def tokens(**asked: Any) -> set[str]:
        return {one.client_token for one in ledger.intents(**asked)}

    assert tokens() == {"old", "open", "done"}
    assert tokens(since=clock.now()) == {"open", "done"}
    assert tokens(unfinished=True) == {"old", "open"}
    assert tokens(since=clock.now(), unfinished=True) == {"open"}


def test_marks_grow_with_each_strike(ledger: Ledger, clock: Clock) -> None:
    """A pool is shut for three minutes, then for longer each time it refuses again."""
    ledger.mark([POOL], clock.now())
    assert ledger.unavailable(clock.now()) == {POOL: clock.now() + timedelta(seconds=180)}
    clock.sleep(181)
    assert ledger.unavailable(clock.now()) == {}
    ledger.mark([POOL], clock.now())
    assert ledger.unavailable(clock.now())[POOL] - clock.now() == timedelta(seconds=360)


def test_a_large_catalogue_survives(ledger: Ledger, clock: Clock) -> None:
    """The whole bundled catalogue goes in and comes out the same, and is kept by version."""
    catalog = replace(bundled(), version="v1", as_of=clock.now())
    ledger.put_catalog(catalog)
    assert ledger.catalog() == catalog
    assert ledger.catalog() is ledger.catalog()


def test_the_pointer_moves_last(ledger: Ledger, mocked: Session, clock: Clock) -> None:
    """A half-written catalogue is not seen: readers have the one before until the pointer moves."""
    ledger.put_catalog(Catalog(bundled().instance_types[:2], "v1", clock.now()))
    mocked.client("dynamodb").put_item(
        TableName=TABLE,
        Item={"pk": {"S": "catalog#v2"}, "sk": {"S": "0000"}, "data": {"B": b"half"}},
    )
    assert len(Ledger(mocked, TABLE, clock.now).catalog().instance_types) == 2


def test_no_catalogue_is_said(ledger: Ledger) -> None:
    """An empty ledger says that there is no catalogue yet."""
    with pytest.raises(NotFound, match="catalog"):
        ledger.catalog()


def test_instances_are_remembered(ledger: Ledger, clock: Clock) -> None:
    """Instances of ours are told from others without asking EC2."""
    instance = Instance("i-1", "g6.xlarge", "us-east-1a", "spot", "running", clock.now())
    ledger.record_instance(instance, "gpu-1", "d")
    known = ledger.ours(["i-1", "i-2"])
    assert list(known) == ["i-1"]
    assert known["i-1"]["claim"] == "gpu-1"
    ledger.forget_instance("i-1")
    assert ledger.ours(["i-1"]) == {}


def test_many_ids_are_few_calls(
    ledger: Ledger, mocked: Session, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred ids a call; what a call leaves over is asked for again, what repeats but once."""
    client = mocked.client("dynamodb")
    asked: list[int] = []
    real = client.batch_get_item

    def half(RequestItems: Any) -> Any:  # noqa: N803 - boto3's own name
        """Answer like a table that is short of capacity: half of the keys stay unprocessed."""
        keys = RequestItems[TABLE]["Keys"]
        asked.append(len(keys))
        now, later = keys[: len(keys) // 2 + 1], keys[len(keys) // 2 + 1 :]
        answer = real(RequestItems={TABLE: {**RequestItems[TABLE], "Keys": now}})
        left = {TABLE: {**RequestItems[TABLE], "Keys": later}} if later else {}
        return {**answer, "UnprocessedKeys": left}

    for number in range(3):
        instance = Instance(f"i-{number}", "m5.large", "z", "spot", "running", clock.now())
        ledger.record_instance(instance, "c", "d")
    monkeypatch.setattr(client, "batch_get_item", half)
    ids = [f"i-{number}" for number in range(150)]
    assert set(ledger.ours([*ids, *ids])) == {"i-0", "i-1", "i-2"}
    assert asked[0] == 100
    assert len(asked) < 16


def test_rows_outlive_what_they_stand_for(ledger: Ledger, mocked: Session, clock: Clock) -> None:
    """DynamoDB may delete a row only after its instance was surely seen again, or its drain began
    anew.
    """
    ledger.record_instance(
        Instance("i-1", "m5.large", "z", "spot", "running", clock.now()), "c", "d"
    )
    ledger.react(Reaction("i-1", "Underutilized", "d", None))
    month = (clock.now() + timedelta(days=31)).timestamp()
    for pk in ("instance", "reaction"):
        key = {"pk": {"S": pk}, "sk": {"S": "i-1"}}
        row = mocked.client("dynamodb").get_item(TableName=TABLE, Key=key)["Item"]
        assert int(row["expires"]["N"]) > month
    clock.sleep(50 * 86400)
    found = ledger.reaction("i-1")
    assert found is not None
    ledger.update_reaction(found)
    row = mocked.client("dynamodb").get_item(
        TableName=TABLE, Key={"pk": {"S": "reaction"}, "sk": {"S": "i-1"}}
    )["Item"]
    assert int(row["expires"]["N"]) > (clock.now() + timedelta(days=31)).timestamp()


def test_a_message_is_owed_until_it_is_paid(ledger: Ledger, clock: Clock) -> None:
    """One writer at a time, the next after fifteen seconds, nobody once it was sent."""
    debt = Debt(
        "i-1", "d/evicted/uid", {"type": "PodEvicted", "detail": {"pod": "a/b"}}, clock.now()
    )
    assert ledger.owe(debt)
    assert not ledger.owe(debt)
    assert ledger.owed("i-1") == (debt,)
    clock.sleep(20)
    again = replace(debt, at=clock.now())
    assert ledger.owe(again)
    ledger.pay([again])
    assert ledger.owed("i-1") == ()
    clock.sleep(20)
    assert not ledger.owe(replace(debt, at=clock.now()))
    other = replace(debt, key="d/evicted/other")
    assert ledger.owe(other)
    ledger.waive(other)
    assert ledger.owed("i-1") == ()


def test_recommendations_wait(ledger: Ledger, clock: Clock) -> None:
    """What waits is known with its age until it is settled."""
    ledger.defer("i-1", clock.now())
    assert ledger.deferred() == {"i-1": clock.now()}
    ledger.undefer("i-1")
    assert ledger.deferred() == {}


def test_a_reaction_only_moves_forward(ledger: Ledger, clock: Clock) -> None:
    """A later deadline changes nothing, an earlier one takes over, an ended row is free."""
    soon, late = clock.now() + timedelta(minutes=2), clock.now() + timedelta(minutes=20)
    row = Reaction("i-1", "rebalance", "d", late)
    assert ledger.react(row)
    assert not ledger.react(row)
    assert not ledger.react(replace(row, deadline=None))
    assert ledger.react(replace(row, deadline=soon, reason="spot"))
    assert not ledger.react(row)
    found = ledger.reaction("i-1")
    assert found is not None
    assert (found.reason, found.deadline) == ("spot", soon)
    ledger.update_reaction(replace(found, ended=True))
    assert ledger.reactions() == ()
    assert ledger.react(row)


def test_seeds_and_their_locks(ledger: Ledger, clock: Clock) -> None:
    """A seed's row comes back whole; its build lock has one owner until it runs out."""
    seed = Seed(
        "k",
        "amd64",
        "AL2023",
        {"a:1": "sha256:1"},
        {"a:1": 7_000_000_000},
        snapshot_id="snap-1",
        state=State.READY.value,
        created=clock.now(),
        used=clock.now(),
        warm_up="fast-restore",
        rate=200,
        zones=("us-east-1a",),
    )
    ledger.put_seed(seed)
    assert ledger.seeds() == (seed,)
    retired = replace(seed, state=State.RETIRED.value)
    assert ledger.update_seed(replace(seed, reason="used"))
    assert ledger.update_seed(retired)
    assert not ledger.update_seed(replace(seed, reason="used later, read before"))
    assert ledger.seeds() == (retired,)
    assert ledger.lock_seed("k", "one", 60)
    assert ledger.lock_seed("k", "one", 60)
    assert not ledger.lock_seed("k", "two", 60)
    assert ledger.seed_locks() == {"k": "one"}
    ledger.unlock_seed("k", "two")
    assert not ledger.lock_seed("k", "two", 60)
    ledger.unlock_seed("k", "one")
    assert ledger.lock_seed("k", "two", 60)


def test_brakes_hold(mocked: Session, clock: Clock) -> None:
    """MaxLaunchesPerMinute counts by the minute, MaxDollarsPerHour compares what would run."""
    make_table(mocked)
    ledger = Ledger(mocked, TABLE, clock.now, launches_per_minute=3, dollars_per_hour=10.0)
    assert ledger.spend(2, 9.0, clock.now())
    assert not ledger.spend(2, 9.0, clock.now())
    assert ledger.spend(1, 9.0, clock.now())
    clock.sleep(60)
    assert ledger.spend(3, 9.0, clock.now())
    assert not ledger.spend(1, price_book.price("p5.48xlarge") or 0.0, clock.now())
