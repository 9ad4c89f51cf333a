"""A bearer token for the EKS API server: a presigned GetCallerIdentity request, signed here.

EKS accepts `k8s-aws-v1.` and the base64 of a presigned STS URL that carries the cluster's name in a
signed header; it calls STS with it and so learns who asks. botocore's SigV4QueryAuth signs it
without an STS client, whose loading costs a cold start some 50 ms. A token is good for 15 minutes;
it is renewed well before.

Refuses to know Kubernetes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from outrider.adapters.aws.session import Session
from outrider.errors import Denied

PREFIX = "k8s-aws-v1."
EXPIRES = 60  # of the URL; EKS counts 15 minutes from its signature
RENEW_AFTER = timedelta(minutes=10)

_SUFFIX = {"aws-cn": "amazonaws.com.cn"}


class EksToken:
    """Tokens for one cluster, renewed when they grow old."""

    def __init__(
        self,
        session: Session,
        cluster: str,
        clock: Callable[[], datetime],
        partition: str = "aws",
    ) -> None:
        self._session = session
        self._cluster = cluster
        self._clock = clock
        self._suffix = _SUFFIX.get(partition, "amazonaws.com")
        self._token = ""
        self._made: datetime | None = None

    def __call__(self) -> str:
        """Return a token that is good for some minutes yet."""
        now = self._clock()
        if self._made is None or not timedelta(0) <= now - self._made < RENEW_AFTER:
            self._token, self._made = self._sign(), now
        return self._token

    def _sign(self) -> str:
        credentials = self._session.boto.get_credentials()
        if credentials is None:
            raise Denied("no AWS credentials to sign an EKS token with", "NoCredentials")
        region = self._session.region
        url = f"https://sts.{region}.{self._suffix}/?Action=GetCallerIdentity&Version=2011-06-15"
        request = AWSRequest(method="GET", url=url, headers={"x-k8s-aws-id": self._cluster})
        frozen = credentials.get_frozen_credentials()
        SigV4QueryAuth(frozen, "sts", region, expires=EXPIRES).add_auth(request)
        encoded = base64.urlsafe_b64encode(request.url.encode()).decode().rstrip("=")
        return PREFIX + encoded
