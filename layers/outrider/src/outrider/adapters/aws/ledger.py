"""The ledger: one DynamoDB table with what must survive a function and is nobody else's business.

Rows are (pk, sk): `cluster` rows for the lease, flags and the catalogue's pointer; `mark`,
`intent`, `instance`, `reaction`, `deferred`, `debt`, `seed`, `lock`, `once` and `spend` rows beside
them. Times are
milliseconds of the clock that is given, and a row counts as gone once its time is over: DynamoDB's
own expiry (attribute `expires`) only tidies up, hours later. Whatever two functions could do at
once is a conditional write.

The planning lease carries a fencing token that grows with each holder; an intent is written in one
transaction with a check of that token, because EC2 cannot check it. Refuses to know what a plan is.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from botocore.exceptions import ClientError

from outrider.adapters.aws import debts, errors, packing
from outrider.adapters.aws.session import Session
from outrider.adapters.aws.table import (
    Refused,
    Row,
    Table,
    expiry,
    instant,
    keyed,
    marshal,
    stamp,
    stored,
)
from outrider.core import backoff
from outrider.core.catalog import codec
from outrider.core.catalog.instancetype import Catalog
from outrider.core.records import Debt, Instance, Intent, Lease, Reaction
from outrider.core.seeding import Seed, State
from outrider.errors import LedgerError, NotFound, NotHolder

Json = Mapping[str, Any]
Pool = tuple[str, str, str]

CANCELLED = "TransactionCanceledException"

INTENT_DAYS = 7
# Longer than a node lives unseen: the sweep writes the rows of living nodes again in time.
INSTANCE_DAYS = 60
# A drain without a deadline may wait behind a budget for weeks; each of its executions writes anew.
REACTION_DAYS = 60
ENDED_DAYS = 2
DEFERRED_DAYS = 2
MARK_MEMORY = timedelta(hours=2)


class Ledger:
    """The table *name*, by the clock *now*."""

    def __init__(
        self,
        session: Session,
        name: str,
        now: Callable[[], datetime],
        *,
        launches_per_minute: int | None = None,
        dollars_per_hour: float | None = None,
    ) -> None:
        self._table = Table(session, name)
        self._now = now
        self._launches_per_minute = launches_per_minute
        self._dollars_per_hour = dollars_per_hour
        self._cached: tuple[str, Catalog] | None = None

    # --- the lease and flags ---------------------------------------------------------------------

    def acquire(self, owner: str, seconds: float) -> Lease | None:
        """Take the cluster's planning lease; None while another holds it."""
        now = self._now()
        until = now + timedelta(seconds=seconds)
        try:
            row = self._table.update(
                ("cluster", "lease"),
                "SET #owner = :owner, #until = :until ADD #token :one",
                {":owner": owner, ":until": stamp(until), ":one": 1, ":now": stamp(now)},
                condition="attribute_not_exists(pk) OR #until <= :now OR #owner = :owner",
                names=("owner", "until", "token"),
            )
        except Refused:
            return None
        return Lease(owner, int(row["token"]), until)

    def renew(self, lease: Lease, seconds: float) -> None:
        """Hold the lease for *seconds* more; raise NotHolder where it is somebody else's."""
        until = self._now() + timedelta(seconds=seconds)
        try:
            self._table.update(
                ("cluster", "lease"),
                "SET #until = :until",
                {":until": stamp(until), ":token": lease.token},
                condition="#token = :token",
                names=("until", "token"),
            )
        except Refused as refusal:
            raise NotHolder("the planning lease has another holder") from refusal

    def release(self, lease: Lease) -> None:
        """Give the lease back, if it is still ours."""
        try:
            self._table.update(
                ("cluster", "lease"),
                "SET #until = :zero",
                {":zero": 0, ":token": lease.token},
                condition="#token = :token",
                names=("until", "token"),
            )
        except Refused:
            return

    def flag(self, name: str, until: datetime) -> None:
        """Raise a flag, such as `interruption-waiting`, that others look at."""
        self._table.put({"pk": "flag", "sk": name, "until": stamp(until), "expires": expiry(until)})

    def flagged(self, name: str, now: datetime) -> bool:
        """Return whether the flag is up."""
        row = self._table.get(("flag", name))
        return row is not None and row["until"] > stamp(now)

    def lower(self, name: str) -> None:
        """Take the flag down."""
        self._table.delete(("flag", name))

    def once(self, key: str, until: datetime) -> bool:
        """Return True the first time *key* is seen, False on every repeat until *until*."""
        row = {"pk": "once", "sk": key, "until": stamp(until), "expires": expiry(until)}
        try:
            self._table.put(
                row,
                condition="attribute_not_exists(pk) OR #until <= :now",
                names=("until",),
                values={":now": stamp(self._now())},
            )
        except Refused:
            return False
        return True

    # --- the catalogue ---------------------------------------------------------------------------

    def catalog(self) -> Catalog:
        """Return the newest whole catalogue."""
        pointer = self._table.get(("catalog", "pointer"))
        if pointer is None:
            raise NotFound("the ledger holds no catalogue yet: the catalog function writes it")
        version = str(pointer["version"])
        if self._cached is not None and self._cached[0] == version:
            return self._cached[1]
        chunks = list(self._table.query(f"catalog#{version}"))
        if len(chunks) != int(pointer["chunks"]):
            raise LedgerError(
                f"catalogue {version} has {len(chunks)} of {pointer['chunks']} chunks"
            )
        with _uncollected():
            catalog = codec.restore(packing.joined(bytes(chunk["data"]) for chunk in chunks))
        self._cached = (version, catalog)
        return catalog

    def put_catalog(self, catalog: Catalog) -> None:
        """Store a catalogue in chunks, the pointer last."""
        chunks = packing.split(codec.dump(catalog))
        before = self._table.get(("catalog", "pointer"))
        for place, chunk in enumerate(chunks):
            self._table.put(
                {"pk": f"catalog#{catalog.version}", "sk": f"{place:04}", "data": chunk}
            )
        pointer: Row = {"pk": "catalog", "sk": "pointer", "version": catalog.version}
        pointer |= {"at": stamp(self._now()), "chunks": str(len(chunks))}
        self._table.put(pointer)
        if before is not None and before["version"] != catalog.version:
            # The one before stays for those who read its pointer a moment ago, and goes by itself.
            gone = expiry(self._now() + timedelta(hours=1))
            for place in range(int(before["chunks"])):
                self._let_expire((f"catalog#{before['version']}", f"{place:04}"), gone)

    def _let_expire(self, key: tuple[str, str], at: int) -> None:
        try:
            self._table.update(
                key,
                "SET #expires = :at",
                {":at": at},
                condition="attribute_exists(pk)",
                names=("expires",),
            )
        except Refused:
            return  # it is gone already

    # --- pools without capacity -------------------------------------------------------------------

    def unavailable(self, now: datetime) -> Mapping[Pool, datetime]:
        """Return the pools marked unavailable: (type, zone, capacity type) -> until."""
        found: dict[Pool, datetime] = {}
        for row in self._table.query("mark"):
            until = instant(row["until"])
            if until > now:
                kind, zone, capacity_type = str(row["sk"]).split("|")
                found[kind, zone, capacity_type] = until
        return found

    def mark(self, pools: Iterable[Pool], now: datetime) -> None:
        """Mark pools unavailable: 180 s at first, longer on repeats."""
        for pool in pools:
            key = ("mark", "|".join(pool))
            row = self._table.get(key)
            before = backoff.Mark(instant(row["until"]), int(row["strikes"])) if row else None
            mark = backoff.next_mark(before, now)
            self._table.put(
                {
                    "pk": key[0],
                    "sk": key[1],
                    "until": stamp(mark.until),
                    "strikes": mark.strikes,
                    "expires": expiry(mark.until + MARK_MEMORY),
                }
            )

    # --- intents ----------------------------------------------------------------------------------

    def intend(self, intent: Intent, lease: Lease) -> Intent:
        """Write an intent before its CreateFleet, fenced by *lease*; return the one that stands."""
        row = self._intent_row(replace(intent, at=intent.at or self._now()))
        check = {
            "ConditionCheck": {
                "TableName": self._table.name,
                "Key": keyed(("cluster", "lease")),
                "ConditionExpression": "#token = :token",
                "ExpressionAttributeNames": {"#token": "token"},
                "ExpressionAttributeValues": marshal({":token": lease.token}),
            }
        }
        put = {
            "Put": {
                "TableName": self._table.name,
                "Item": stored(row),
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }
        try:
            self._table.client.transact_write_items(TransactItems=[check, put])
        except ClientError as error:
            if errors.code_of(error) != CANCELLED:
                raise errors.translated(error, "TransactWriteItems") from error
            return self._standing(intent, error)
        return replace(intent, at=instant(row["at"]))

    def settle(self, intent: Intent) -> None:
        """Record what CreateFleet gave."""
        self._table.put(self._intent_row(replace(intent, at=intent.at or self._now())))

    def intents(
        self, *, since: datetime | None = None, unfinished: bool = False
    ) -> tuple[Intent, ...]:
        """Return intents, newest last: those *since* then, those that are *unfinished*."""
        wanted: dict[str, tuple[str, Any]] = {}
        if since is not None:
            wanted["at"] = ">=", stamp(since)
        if unfinished:
            wanted["state"] = "=", "intended"
        rows = self._table.query(
            "intent",
            only=" AND ".join(f"#{name} {is_} :{name}" for name, (is_, _) in wanted.items()),
            names=tuple(wanted),
            values={f":{name}": value for name, (_, value) in wanted.items()},
        )
        found = [_intent(row) for row in rows]
        kept = [one for one in found if since is None or (one.at is not None and one.at >= since)]
        return tuple(sorted(kept, key=lambda one: one.at or datetime.min.replace(tzinfo=UTC)))

    def _standing(self, intent: Intent, error: ClientError) -> Intent:
        reasons = [entry.get("Code") for entry in error.response.get("CancellationReasons", ())]
        if reasons[:1] == ["ConditionalCheckFailed"]:
            raise NotHolder("the planning lease has another holder") from error
        row = self._table.get(("intent", intent.client_token))
        if row is None:
            raise LedgerError(f"the intent was not written: {reasons}") from error
        return _intent(row)

    def _intent_row(self, intent: Intent) -> Row:
        at = intent.at or self._now()
        return {
            "pk": "intent",
            "sk": intent.client_token,
            "decision": intent.decision,
            "pool": intent.node_pool,
            "claims": list(intent.claims),
            "request": packing.packed(orjson.dumps(intent.request)),
            "state": intent.state,
            "instances": dict(intent.instances),
            "at": stamp(at),
            "expires": expiry(at + timedelta(days=INTENT_DAYS)),
        }

    # --- instances and reactions ------------------------------------------------------------------

    def record_instance(self, instance: Instance, claim: str, decision: str) -> None:
        """Remember an instance as ours, so that signals for others' are dropped without a read."""
        self._table.put(self._instance_row(instance, claim, decision))

    def record_instances(self, claims: Mapping[str, Instance], decision: str) -> None:
        """Remember the instances of *claims* as ours, 25 a call."""
        self._table.put_many(
            self._instance_row(instance, claim, decision) for claim, instance in claims.items()
        )

    def _instance_row(self, instance: Instance, claim: str, decision: str) -> Row:
        return {
            "pk": "instance",
            "sk": instance.id,
            "claim": claim,
            "decision": decision,
            "type": instance.instance_type,
            "zone": instance.zone,
            "capacityType": instance.capacity_type,
            "reservation": instance.reservation_id or "",
            "launched": stamp(instance.launched),
            "expires": expiry(self._now() + timedelta(days=INSTANCE_DAYS)),
        }

    def ours(self, instance_ids: Sequence[str]) -> Mapping[str, Json]:
        """Return, of *instance_ids*, those that are this cluster's, with what was recorded."""
        rows = self._table.get_many(("instance", instance_id) for instance_id in instance_ids)
        return {str(row["sk"]): row for row in rows}

    def forget_instance(self, instance_id: str) -> None:
        """Forget a terminated instance."""
        self._table.delete(("instance", instance_id))

    def reaction(self, instance_id: str) -> Reaction | None:
        """Return the reaction that runs for an instance."""
        row = self._table.get(("reaction", instance_id))
        return _reaction(row) if row is not None else None

    def react(self, reaction: Reaction) -> bool:
        """Record a reaction; False where one with the same or an earlier deadline runs already.

        A row that is `ended` or `cancelled` stands in nobody's way; no deadline is later than any.
        """
        row = self._reaction_row(reaction)
        try:
            self._table.put(
                row,
                condition="attribute_not_exists(pk) OR #ended = :yes OR #cancelled = :yes "
                "OR #deadline > :deadline",
                names=("ended", "cancelled", "deadline"),
                values={":yes": True, ":deadline": row["deadline"]},
            )
        except Refused:
            return False
        return True

    def update_reaction(self, reaction: Reaction) -> None:
        """Write what is known now of a reaction that `react` recorded, whatever its deadline."""
        self._table.put(self._reaction_row(reaction))

    def reactions(self) -> tuple[Reaction, ...]:
        """Return every reaction that has not ended, for budgets and the sweep."""
        rows = self._table.query(
            "reaction", only="#ended <> :yes", names=("ended",), values={":yes": True}
        )
        return tuple(_reaction(row) for row in rows)

    def defer(self, instance_id: str, since: datetime) -> None:
        """Remember a recommendation that its NodePool's budget has no room for yet."""
        row = {"pk": "deferred", "sk": instance_id, "since": stamp(since)}
        until = self._now() + timedelta(days=DEFERRED_DAYS)
        self._table.put({**row, "expires": expiry(until)})

    def deferred(self) -> Mapping[str, datetime]:
        """Return the instances whose recommendations wait, and since when."""
        return {str(row["sk"]): instant(row["since"]) for row in self._table.query("deferred")}

    def undefer(self, instance_id: str) -> None:
        """Forget that an instance's recommendation waits."""
        self._table.delete(("deferred", instance_id))

    # --- messages that are owed -------------------------------------------------------------------

    def owe(self, debt: Debt) -> bool:
        """Write a message down before what it tells of; False where it is not ours to send."""
        return debts.owe(self._table, debt)

    def owed(self, about: str) -> tuple[Debt, ...]:
        """Return the messages *about* an instance that nobody is known to have sent."""
        return debts.owed(self._table, about)

    def pay(self, paid: Iterable[Debt]) -> None:
        """Remember that messages were sent."""
        debts.pay(self._table, paid)

    def waive(self, debt: Debt) -> None:
        """Forget a message: what it tells of did not happen."""
        debts.waive(self._table, debt.about, debt.key)

    def _reaction_row(self, reaction: Reaction) -> Row:
        now = self._now()
        at = reaction.at or now
        days = timedelta(days=ENDED_DAYS if reaction.ended else REACTION_DAYS)
        return {
            "pk": "reaction",
            "sk": reaction.instance_id,
            "reason": reaction.reason,
            "decision": reaction.decision,
            "deadline": stamp(reaction.deadline) if reaction.deadline else NO_DEADLINE,
            "replacements": list(reaction.replacements),
            "execution": reaction.execution,
            "node": reaction.node,
            "pool": reaction.node_pool,
            "planned": reaction.planned,
            "cancelled": reaction.cancelled,
            "ended": reaction.ended,
            "at": stamp(at),
            "expires": expiry(max(now, reaction.deadline or now) + days),
        }

    # --- seeds ------------------------------------------------------------------------------------

    def seeds(self) -> tuple[Seed, ...]:
        """Return the published seeds."""
        found = (packing.seed(row) for row in self._table.query("seed"))
        return tuple(sorted((one for one in found), key=lambda one: one.key))

    def put_seed(self, seed: Seed) -> None:
        """Write a seed row, whatever its state."""
        self._put_seed(seed)

    def update_seed(self, seed: Seed) -> bool:
        """Write a seed row that is still ready; False where somebody has retired it meanwhile."""
        try:
            self._put_seed(
                seed,
                condition="#state = :ready",
                names=("state",),
                values={":ready": State.READY.value},
            )
        except Refused:
            return False
        return True

    def _put_seed(self, seed: Seed, **condition: Any) -> None:
        row = packing.seed_row(seed)
        if seed.state in {State.RETIRED, State.FAILED}:
            row["expires"] = expiry(self._now() + timedelta(days=INTENT_DAYS))
        self._table.put({"pk": "seed", "sk": seed.key, **row}, **condition)

    def lock_seed(self, key: str, owner: str, seconds: float) -> bool:
        """Take the build lock of a seed."""
        until = self._now() + timedelta(seconds=seconds)
        row = {"pk": "lock", "sk": key, "owner": owner, "until": stamp(until)}
        try:
            self._table.put(
                {**row, "expires": expiry(until)},
                condition="attribute_not_exists(pk) OR #until <= :now OR #owner = :owner",
                names=("until", "owner"),
                values={":now": stamp(self._now()), ":owner": owner},
            )
        except Refused:
            return False
        return True

    def seed_locks(self) -> Mapping[str, str]:
        """Return the build locks that are held: seed key to owner."""
        now = stamp(self._now())
        rows = self._table.query("lock")
        return {str(row["sk"]): str(row["owner"]) for row in rows if row["until"] > now}

    def unlock_seed(self, key: str, owner: str) -> None:
        """Give a build lock back."""
        try:
            self._table.delete(
                ("lock", key),
                condition="#owner = :owner",
                names=("owner",),
                values={":owner": owner},
            )
        except Refused:
            return

    # --- brakes -----------------------------------------------------------------------------------

    def spend(self, launches: int, dollars_per_hour: float, now: datetime) -> bool:
        """Count *launches* against MaxLaunchesPerMinute; False when a brake holds.

        *dollars_per_hour* is what would run afterwards, compared with MaxDollarsPerHour.
        """
        if self._dollars_per_hour is not None and dollars_per_hour > self._dollars_per_hour:
            return False
        if self._launches_per_minute is None:
            return True
        if launches > self._launches_per_minute:
            return False
        minute = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")
        try:
            self._table.update(
                ("spend", minute),
                "SET #expires = :expires ADD #launches :launches",
                {
                    ":launches": launches,
                    ":expires": expiry(now + timedelta(hours=1)),
                    ":room": self._launches_per_minute - launches,
                },
                condition="attribute_not_exists(pk) OR #launches <= :room",
                names=("launches", "expires"),
            )
        except Refused:
            return False
        return True


NO_DEADLINE = 2**53  # later than any


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the collector of cycles away: a hundred thousand objects come at once, none in a cycle,
    and each of its passes would walk them all.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _intent(row: Row) -> Intent:
    return Intent(
        decision=str(row["decision"]),
        client_token=str(row["sk"]),
        node_pool=str(row["pool"]),
        claims=tuple(row["claims"]),
        request=orjson.loads(packing.unpacked(bytes(row["request"]))),
        state=str(row["state"]),
        instances=dict(row.get("instances", {})),
        at=instant(row["at"]),
    )


def _reaction(row: Row) -> Reaction:
    deadline = int(row["deadline"])
    return Reaction(
        instance_id=str(row["sk"]),
        reason=str(row["reason"]),
        decision=str(row["decision"]),
        deadline=None if deadline == NO_DEADLINE else instant(deadline),
        replacements=tuple(row.get("replacements", ())),
        execution=str(row.get("execution", "")),
        node=str(row.get("node", "")),
        node_pool=str(row.get("pool", "")),
        planned=bool(row.get("planned")),
        cancelled=bool(row.get("cancelled")),
        ended=bool(row.get("ended")),
        at=instant(row["at"]),
    )
