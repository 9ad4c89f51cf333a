"""What an account may have at most: EC2's vCPU quotas, Lambda's concurrency.

A grown account's figures, so that nothing in the embedded cloud is held up by them; whoever wants
to see a young account lowers them. Nothing here enforces a quota: faults do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from outrider.local.aws import Endpoint
from outrider.local.region import ACCOUNT, REGION
from outrider.local.wire import Call, Refused

VCPUS = 5_000.0
CONCURRENT = 1_000


@dataclass(slots=True)
class Quotas:
    """The quotas of the account; `vcpus` holds those that differ from the usual, by code."""

    endpoint: Endpoint
    vcpus: dict[str, float] = field(default_factory=dict)
    concurrent: int = CONCURRENT
    reserved: int = 0

    def install(self) -> None:
        """Answer the reads of quotas."""
        self.endpoint.serve("servicequotas:GetServiceQuota", self._quota)
        self.endpoint.serve("lambda:GetAccountSettings", self._settings)

    def _quota(self, wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        service, code = wanted["ServiceCode"], wanted["QuotaCode"]
        if service != "ec2":
            raise Refused("NoSuchResourceException", f"The quota {code} of {service} is not kept.")
        return {
            "Quota": {
                "ServiceCode": service,
                "QuotaCode": code,
                "QuotaArn": f"arn:aws:servicequotas:{REGION}:{ACCOUNT}:{service}/{code}",
                "Value": self.vcpus.get(code, VCPUS),
                "Unit": "None",
                "Adjustable": True,
                "GlobalQuota": False,
            }
        }

    def _settings(self, _wanted: dict[str, Any], _call: Call) -> dict[str, Any]:
        return {
            "AccountLimit": {
                "ConcurrentExecutions": self.concurrent,
                "UnreservedConcurrentExecutions": self.concurrent - self.reserved,
                "TotalCodeSize": 80_530_636_800,
                "CodeSizeUnzipped": 262_144_000,
                "CodeSizeZipped": 52_428_800,
            },
            "AccountUsage": {"TotalCodeSize": 0, "FunctionCount": 0},
        }
