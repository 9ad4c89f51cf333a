"""moto's tables, without a look at every row for each query.

DynamoDB reads one partition; moto sorts the whole table and keeps the rows of the partition. After
a simulated day that is a good part of the embedded cloud's work. Same answer, from fewer rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def install() -> Callable[[], None]:
    """Let queries of a table (not of its indexes) see their partition; return what undoes it."""
    from moto.dynamodb.models.table import Table

    original = Table.query
    signature = inspect.signature(original)

    def query(table: Any, *arguments: Any, **named: Any) -> Any:
        asked = signature.bind(table, *arguments, **named).arguments
        hash_key = asked["hash_key"]
        if hash_key is None or asked.get("index_name"):
            return original(table, *arguments, **named)
        partition = object.__new__(type(table))  # moto keeps a list of all that are made otherwise
        partition.__dict__.update(table.__dict__)
        partition.items = {hash_key: table.items[hash_key]} if hash_key in table.items else {}
        return original(partition, *arguments, **named)

    Table.query = query

    def undo() -> None:
        Table.query = original

    return undo
