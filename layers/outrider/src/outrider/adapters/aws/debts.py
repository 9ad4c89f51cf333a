"""Messages that are owed: written down before the deed that they tell of, struck off once sent.

EventBridge takes no part in a transaction, so a function may die between what it does and what it
says of it. A debt is a row that is there first: whoever comes later finds it and sends the message.
While a debt is fresh it belongs to whoever wrote it; after `TAKEN_OVER` it is anybody's, and what
was sent is remembered for a week. So a message goes out at least once, and twice only if a function
dies between sending it and striking it off; both carry the same id. Refuses to know what is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import orjson

from outrider.adapters.aws.table import Refused, Row, Table, expiry, instant, stamp
from outrider.core.records import Debt

REMEMBERED = timedelta(days=7)
TAKEN_OVER = timedelta(seconds=15)


def owe(table: Table, debt: Debt) -> bool:
    """Write *debt* into *table*; False where it is paid, or another's and fresh."""
    try:
        table.put(
            _row(debt, paid=False),
            condition="attribute_not_exists(pk) OR (#paid = :no AND #at <= :stale)",
            names=("paid", "at"),
            values={":no": False, ":stale": stamp(debt.at - TAKEN_OVER)},
        )
    except Refused:
        return False
    return True


def owed(table: Table, about: str) -> tuple[Debt, ...]:
    """Return the debts *about* something that are not paid."""
    return tuple(
        Debt(about, str(row["sk"]), orjson.loads(str(row["message"])), instant(row["at"]))
        for row in table.query(_place(about))
        if not row["paid"]
    )


def pay(table: Table, debts: Iterable[Debt]) -> None:
    """Remember that *debts* were sent."""
    table.put_many(_row(debt, paid=True) for debt in debts)


def waive(table: Table, about: str, key: str) -> None:
    """Forget a debt: what it tells of did not happen."""
    table.delete((_place(about), key))


def _place(about: str) -> str:
    return f"debt#{about}"


def _row(debt: Debt, *, paid: bool) -> Row:
    return {
        "pk": _place(debt.about),
        "sk": debt.key,
        "message": "" if paid else orjson.dumps(debt.message).decode(),
        "paid": paid,
        "at": stamp(debt.at),
        "expires": expiry(debt.at + REMEMBERED),
    }
