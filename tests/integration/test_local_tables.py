"""A query of an embedded table reads its partition alone, and answers as moto does from all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.dynamodb.models.table import Table

from outrider.local import mototables

pytestmark = pytest.mark.integration
KEYS = (("p", "HASH"), ("s", "RANGE"))
QUESTIONS: dict[str, dict[str, Any]] = {
    "a partition": {"KeyConditionExpression": "p = :p"},
    "a range": {"KeyConditionExpression": "p = :p and s > :s"},
    "a page": {"KeyConditionExpression": "p = :p", "Limit": 4},
    "backwards": {"KeyConditionExpression": "p = :p", "ScanIndexForward": False, "Limit": 2},
    "a later page": {
        "KeyConditionExpression": "p = :p",
        "ExclusiveStartKey": {"p": {"S": "p7"}, "s": {"S": "s047"}},
    },
    "a filter": {"KeyConditionExpression": "p = :p", "FilterExpression": "v > :v"},
    "by another key": {"IndexName": "by-v", "KeyConditionExpression": "v = :v"},
}
VALUES = {":p": {"S": "p7"}, ":s": {"S": "s030"}, ":v": {"N": "57"}}


@pytest.fixture
def table() -> Iterator[Any]:
    """A client with a table of ten partitions, a hundred rows."""
    with mock_aws():
        client = boto3.client(
            "dynamodb", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        client.create_table(
            TableName="t",
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in KEYS],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": kind}
                for name, kind in (("p", "S"), ("s", "S"), ("v", "N"))
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by-v",
                    "KeySchema": [{"AttributeName": "v", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        for number in range(100):
            row = {"p": {"S": f"p{number % 10}"}, "s": {"S": f"s{number:03}"}}
            client.put_item(TableName="t", Item={**row, "v": {"N": str(number)}})
        yield client


def ask(client: Any, question: dict[str, Any]) -> Any:
    """Return the answer without what differs from call to call."""
    words = question["KeyConditionExpression"] + question.get("FilterExpression", "")
    values = {name: value for name, value in VALUES.items() if name in words}
    answer = client.query(TableName="t", ExpressionAttributeValues=values, **question)
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_partition_answers_as_the_table_does(table: Any, question: dict[str, Any]) -> None:
    """Whatever is asked, of the table and of an index."""
    expected = ask(table, question)
    assert expected["Items"]
    undo = mototables.install()
    try:
        assert ask(table, question) == expected
    finally:
        undo()
    assert ask(table, question) == expected


def test_a_query_leaves_no_table_behind(table: Any) -> None:
    """A simulated day asks a million times."""
    undo = mototables.install()
    try:
        before = len(Table.instances_tracked)
        ask(table, QUESTIONS["a partition"])
        assert len(Table.instances_tracked) == before
    finally:
        undo()


def test_a_partition_without_rows_is_empty(table: Any) -> None:
    """Asking for one does not make it."""
    undo = mototables.install()
    try:
        asked = {"KeyConditionExpression": "p = :p"}
        answer = table.query(
            TableName="t", ExpressionAttributeValues={":p": {"S": "none"}}, **asked
        )
    finally:
        undo()
    assert answer["Items"] == []
    assert len(table.scan(TableName="t")["Items"]) == 100
