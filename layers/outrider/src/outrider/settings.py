"""The environment of a function, read once into one frozen value.

template.yaml sets every variable; names begin with OUTRIDER_. A missing or bad one is said with its
name, at start, not at first use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from outrider.core.seeding.estimate import WarmUp
from outrider.errors import InvalidManifest

PREFIX = "OUTRIDER_"


def _words(value: object) -> object:
    return tuple(filter(None, value.split(","))) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Settings(BaseModel):
    """One stack's settings."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cluster: str
    region: str
    partition: str = "aws"
    stack: str = "outrider"
    mode: Literal["observe", "provision", "full"] = "full"
    function: str = ""
    ledger_table: str = ""
    decision_bus: str = ""
    join_queue_url: str = ""
    hint_queue_url: str = ""
    drain_machine_arn: str = ""
    seed_machine_arn: str = ""
    webhook_secret_name: str = ""
    discovery_tag: str = "karpenter.sh/discovery"
    node_role_arns: Words = ()
    solver_deadline_seconds: float | None = Field(default=None, gt=0)
    max_launches_per_minute: int | None = Field(default=None, ge=0)
    max_dollars_per_hour: float | None = Field(default=None, ge=0)
    launch_timeout_seconds: int = 300
    registration_timeout_seconds: int = 900
    initialization_timeout_seconds: int = 1800
    node_cost_per_hour: float = Field(default=0.01, ge=0)
    spot_flexibility: int = Field(default=5, ge=1)
    most_pods_per_node: int | None = Field(default=None, ge=1)
    kubernetes_writers: int = Field(default=8, ge=1, le=32)
    minimum_saving: float = Field(default=0.05, ge=0, lt=1)
    moves_a_day: int = Field(default=2, ge=1)
    seed_warm_up: WarmUp = WarmUp.RATE
    seed_rate: int = Field(default=300, ge=100, le=300)
    seed_retention_days: int = Field(default=30, ge=1)
    seed_builders: int = Field(default=5, ge=1)


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in *environment* (the process's own by default)."""
    source = os.environ if environment is None else environment
    values = {
        key.removeprefix(PREFIX).lower(): value
        for key, value in source.items()
        if key.startswith(PREFIX) and value != ""
    }
    values.setdefault("region", source.get("AWS_REGION", source.get("AWS_DEFAULT_REGION", "")))
    values.setdefault("function", source.get("AWS_LAMBDA_FUNCTION_NAME", ""))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidManifest(first["msg"], path=name, thing="environment") from error
