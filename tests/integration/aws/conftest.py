"""One mocked account in process: a table, a VPC with three subnets, an EKS cluster, public images.

Not mocked here: our own code, botocore's parameter validation, DynamoDB's conditions (moto's).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from moto import mock_aws

from outrider.adapters.aws.cloud import Cloud
from outrider.adapters.aws.ledger import Ledger
from outrider.adapters.aws.session import Session
from tests.support.account import TABLE, Account, furnish, make_table

START = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        """Return the instant."""
        return self.at

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture(scope="session")
def session() -> Session:
    """Return clients that every test shares: making them costs more than most tests."""
    return Session("us-east-1")


@pytest.fixture
def mocked(session: Session) -> Iterator[Session]:
    """Return the session in an account with nothing in it."""
    with mock_aws():
        yield session


@pytest.fixture
def account(mocked: Session) -> Account:
    """Return a furnished account in us-east-1."""
    return furnish(mocked)


@pytest.fixture
def ledger(mocked: Session, clock: Clock) -> Ledger:
    """Return the ledger of an empty table."""
    make_table(mocked)
    return Ledger(mocked, TABLE, clock.now)


@pytest.fixture
def cloud(account: Account, clock: Clock) -> Cloud:
    """Return the account as cluster `test` sees it."""
    return Cloud(account.session, "test", "outrider", clock.now)
