"""boto3 clients, each made once, when first asked for, and how patient they are.

Retries are botocore's `standard` ones with jitter: a throttled call is tried again a few times,
then `Throttled` goes to the flow, whose queue or state machine tries later. `adaptive` is not used:
its client-side brake would also hold the next call, and that may be an interruption's. The endpoint
comes from AWS_ENDPOINT_URL by botocore's own rules, so the embedded cloud needs no switch here.

Refuses to know any operation.
"""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore.config import Config

CONNECT_SECONDS = 2
READ_SECONDS = 15
ATTEMPTS = 4

# The Pricing API lives in few regions and may be out of reach from a VPC: one quick try.
PRICING_REGION = {"aws-cn": "cn-northwest-1"}  # by partition; us-east-1 for all others
PRICING_SECONDS = 2
# A hint is worth 300 ms, no more: the minute tick covers a lost one.
HINT_SECONDS = 0.3


def usual_region() -> str:
    """Return the region that the environment or AWS' configuration files name; "" for none."""
    return os.environ.get("AWS_REGION") or boto3.session.Session().region_name or ""


class Session:
    """The clients of one sandbox in one *region*."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.boto = boto3.session.Session(region_name=region)
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return the client of *service*."""
        return self._made(service, service, self.region, READ_SECONDS, ATTEMPTS)

    def pricing(self) -> Any:
        """Return the Pricing API's client, with its short patience."""
        partition = self.boto.get_partition_for_region(self.region)
        where = PRICING_REGION.get(partition, "us-east-1")
        return self._made("pricing", "pricing", where, PRICING_SECONDS, 1)

    def hinting(self) -> Any:
        """Return the EventBridge client for hints: 300 ms, no retry."""
        return self._made("hints", "events", self.region, HINT_SECONDS, 1)

    def _made(self, key: str, service: str, region: str, seconds: float, attempts: int) -> Any:
        if key not in self._clients:
            config = Config(
                region_name=region,
                connect_timeout=min(CONNECT_SECONDS, seconds),
                read_timeout=seconds,
                retries={"mode": "standard", "total_max_attempts": attempts},
                user_agent_appid="outrider",
            )
            self._clients[key] = self.boto.client(service, region_name=region, config=config)
        return self._clients[key]
