"""A function that does as its payload says: the embedded cloud's own test subject."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import boto3


def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Record what came, then answer, fail, or give messages back."""
    if "Records" in event:
        return _batch(event)
    if "requestContext" in event:
        return _http(event)
    order = event.get("detail", event)
    _remember(order.get("name", "called"), event)
    if order.get("fail"):
        raise ValueError(order["fail"])
    for index in range(int(order.get("calls", 0))):
        boto3.client("dynamodb").put_item(
            TableName=os.environ["TABLE"],
            Item={"pk": {"S": f"call-{order['name']}-{index}"}},
        )
    if "metric" in order:
        sys.stdout.write(json.dumps(_metric(order["metric"])) + "\n")
    return {
        "function": os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        "who": boto3.client("sts").get_caller_identity()["Arn"],
        "left": context.get_remaining_time_in_millis(),
        "n": event.get("n", 0) + 1,
    }


def _remember(name: str, event: Any) -> None:
    boto3.client("dynamodb").update_item(
        TableName=os.environ["TABLE"],
        Key={"pk": {"S": name}},
        UpdateExpression="ADD times :one SET #last = :event",
        ExpressionAttributeNames={"#last": "last"},
        ExpressionAttributeValues={":one": {"N": "1"}, ":event": {"S": json.dumps(event)}},
    )


def _batch(event: dict[str, Any]) -> Any:
    bodies = [json.loads(record["body"]) for record in event["Records"]]
    _remember("batch", bodies)
    if any(body.get("crash") for body in bodies):
        raise RuntimeError("the whole batch")
    failed = [
        {"itemIdentifier": record["messageId"]}
        for record, body in zip(event["Records"], bodies, strict=True)
        if body.get("bad")
    ]
    return {"batchItemFailures": failed}


def _http(event: dict[str, Any]) -> Any:
    if event.get("body") == "crash":
        raise RuntimeError("no answer")
    return {
        "statusCode": 201,
        "headers": {"X-Probe": "yes"},
        "body": json.dumps({"path": event["pathParameters"], "body": event.get("body")}),
    }


def _metric(value: float) -> dict[str, Any]:
    directive = {
        "Namespace": "Probe",
        "Dimensions": [["Cluster"]],
        "Metrics": [{"Name": "Depth", "Unit": "Count"}],
    }
    return {"_aws": {"CloudWatchMetrics": [directive]}, "Cluster": "local", "Depth": value}
