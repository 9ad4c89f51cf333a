"""A DynamoDB table of rows (pk, sk): reads that are consistent, writes that may have a condition.

Values are marshalled by boto3's own serialiser. A condition that does not hold is `Refused`; every
other error is one of ours. Instants are whole milliseconds, because leases are shorter than a
second's rounding allows; DynamoDB's own expiry counts in seconds. Every row carries the version of
the state in it, attribute `v` (`core.stateversion`). Refuses to know what a row means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.core import stateversion
from outrider.errors import Throttled

Row = dict[str, Any]
Key = tuple[str, str]

CONDITION = "ConditionalCheckFailedException"
MOST_READ, MOST_WRITTEN = 100, 25  # rows that DynamoDB takes in one batch
ROUNDS = 8  # of what a batch left over, before it counts as throttled

_read = TypeDeserializer().deserialize
_write = TypeSerializer().serialize


class Refused(Exception):
    """A condition did not hold."""


class Table:
    """The table called *name*."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self.name = name

    @property
    def client(self) -> Any:
        """Return DynamoDB's client, for what goes beyond one row."""
        return self._session.client("dynamodb")

    def get(self, key: Key) -> Row | None:
        """Return one row; None where there is none."""
        with errors.speaking("GetItem"):
            answer = self.client.get_item(TableName=self.name, Key=keyed(key), ConsistentRead=True)
        return unmarshal(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Iterable[Key]) -> Iterator[Row]:
        """Return the rows of *keys* that exist, in no order: a hundred a call."""
        wanted = [keyed(key) for key in dict.fromkeys(keys)]
        for start in range(0, len(wanted), MOST_READ):
            left: Any = {
                self.name: {"Keys": wanted[start : start + MOST_READ], "ConsistentRead": True}
            }
            for _ in range(ROUNDS):
                with errors.speaking("BatchGetItem"):
                    answer = self.client.batch_get_item(RequestItems=left)
                yield from map(unmarshal, answer["Responses"].get(self.name, ()))
                left = answer.get("UnprocessedKeys")
                if not left:
                    break
            else:
                raise Throttled("BatchGetItem leaves keys unprocessed")

    def put_many(self, rows: Iterable[Row]) -> None:
        """Write *rows* whatever stands in their places, 25 a call."""
        wanted = [{"PutRequest": {"Item": stored(row)}} for row in rows]
        for start in range(0, len(wanted), MOST_WRITTEN):
            left: Any = {self.name: wanted[start : start + MOST_WRITTEN]}
            for _ in range(ROUNDS):
                with errors.speaking("BatchWriteItem"):
                    answer = self.client.batch_write_item(RequestItems=left)
                left = answer.get("UnprocessedItems")
                if not left:
                    break
            else:
                raise Throttled("BatchWriteItem leaves rows unprocessed")

    def query(
        self,
        pk: str,
        *,
        only: str = "",
        names: Sequence[str] = (),
        values: Mapping[str, Any] | None = None,
    ) -> Iterator[Row]:
        """Return the rows under *pk* for which *only* holds, by sk; every one without it."""
        call: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": marshal({":pk": pk, **(values or {})}),
            "ConsistentRead": True,
        }
        if only:
            call["FilterExpression"] = only
            call["ExpressionAttributeNames"] = {f"#{name}": name for name in names}
        pages = self.client.get_paginator("query")
        with errors.speaking("Query"):
            for page in pages.paginate(**call):
                for item in page["Items"]:
                    yield unmarshal(item)

    def put(
        self,
        row: Row,
        *,
        condition: str = "",
        names: Sequence[str] = (),
        values: Mapping[str, Any] | None = None,
    ) -> None:
        """Write *row*, if *condition* holds."""
        call: dict[str, Any] = {"TableName": self.name, "Item": stored(row)}
        _conditioned(call, condition, names, values)
        with _refusing("PutItem"):
            self.client.put_item(**call)

    def update(
        self,
        key: Key,
        expression: str,
        values: Mapping[str, Any],
        *,
        condition: str,
        names: Sequence[str],
    ) -> Row:
        """Change one row by *expression*, a SET, if *condition* holds; return it as it is then."""
        call: dict[str, Any] = {
            "TableName": self.name,
            "Key": keyed(key),
            "UpdateExpression": expression.replace("SET ", "SET #v = :v, ", 1),
            "ReturnValues": "ALL_NEW",
        }
        version = {":v": stateversion.VERSION}
        _conditioned(call, condition, (*names, "v"), {**values, **version})
        with _refusing("UpdateItem"):
            answer = self.client.update_item(**call)
        return unmarshal(answer["Attributes"])

    def delete(
        self,
        key: Key,
        *,
        condition: str = "",
        names: Sequence[str] = (),
        values: Mapping[str, Any] | None = None,
    ) -> None:
        """Delete one row, if *condition* holds; one that is gone is fine."""
        call: dict[str, Any] = {"TableName": self.name, "Key": keyed(key)}
        _conditioned(call, condition, names, values)
        with _refusing("DeleteItem"):
            self.client.delete_item(**call)


def keyed(key: Key) -> Mapping[str, Any]:
    """Return a key as DynamoDB takes it."""
    return marshal({"pk": key[0], "sk": key[1]})


def marshal(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row's values as DynamoDB takes them."""
    return {name: _write(value) for name, value in row.items()}


def stored(row: Row) -> Mapping[str, Any]:
    """Return a whole row as it is written, its version in it."""
    return marshal({**row, "v": stateversion.VERSION})


def unmarshal(item: Mapping[str, Any]) -> Row:
    """Return DynamoDB's item as a row; raise StateTooNew where it could be misread."""
    row = {name: _read(value) for name, value in item.items()}
    stateversion.check(row.pop("v", None), f"row {row.get('pk')}/{row.get('sk')}")
    return row


def stamp(at: datetime) -> int:
    """Return an instant in milliseconds."""
    return round(at.timestamp() * 1000)


def instant(at: Any) -> datetime:
    """Return the instant of a stamp."""
    return datetime.fromtimestamp(int(at) / 1000, UTC)


def expiry(at: datetime) -> int:
    """Return an instant for DynamoDB's own expiry."""
    return int(at.timestamp()) + 1


@contextmanager
def _refusing(doing: str) -> Iterator[None]:
    """Turn a failed condition into Refused and other errors into ours."""
    with errors.speaking(doing):
        try:
            yield
        except ClientError as error:
            if errors.code_of(error) == CONDITION:
                raise Refused(doing) from error
            raise


def _conditioned(
    call: dict[str, Any], condition: str, names: Sequence[str], values: Mapping[str, Any] | None
) -> None:
    if condition:
        call["ConditionExpression"] = condition
    if names:
        call["ExpressionAttributeNames"] = {f"#{name}": name for name in names}
    if values:
        call["ExpressionAttributeValues"] = marshal(values)
