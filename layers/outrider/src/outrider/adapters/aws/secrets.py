"""The webhook's secrets, from Secrets Manager: the current one and the one before.

The two staging labels are exactly what a rotation without a gap needs: until everybody has the new
secret, the old one still opens. They are kept for some minutes, so that a storm of calls is one
read. Refuses to say a secret in any error.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from outrider.adapters.aws.session import Session
from outrider.errors import CloudError

KEPT = timedelta(minutes=5)
STAGES = ("AWSCURRENT", "AWSPREVIOUS")
MISSING = "ResourceNotFoundException"  # there is no previous one before the first rotation


class Secrets:
    """The secrets called *name* that are in force."""

    def __init__(self, session: Session, name: str, clock: Callable[[], datetime]) -> None:
        self._session = session
        self._name = name
        self._clock = clock
        self._kept: tuple[str, ...] = ()
        self._read_at: datetime | None = None

    def __call__(self) -> tuple[str, ...]:
        """Return the secrets in force; those known already while they cannot be read anew."""
        now = self._clock()
        if self._read_at is None or now - self._read_at > KEPT:
            try:
                self._kept = tuple(filter(None, (self._read(stage) for stage in STAGES)))
            except CloudError:
                if not self._kept:
                    raise
            self._read_at = now
        return self._kept

    def _read(self, stage: str) -> str:
        try:
            answer = self._session.client("secretsmanager").get_secret_value(
                SecretId=self._name, VersionStage=stage
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == MISSING and stage != STAGES[0]:
                return ""
            raise CloudError(f"GetSecretValue {stage}: {code}", code) from error
        except BotoCoreError as error:
            raise CloudError(f"GetSecretValue {stage}: {type(error).__name__}") from error
        return str(answer.get("SecretString", ""))
