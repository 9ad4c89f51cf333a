"""Launch templates in EC2: made when their name is new, never changed, dropped when unused.

A template's name holds the hash of its content (`core.launch.template`), so there is nothing to
compare and nothing to update: the first version is the only one. Two functions that make the same
one at once both succeed. Refuses to know what a template says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from outrider.adapters.aws import errors
from outrider.adapters.aws.session import Session
from outrider.core.launch import tags
from outrider.core.launch.template import TemplateRequest

EXISTS = "InvalidLaunchTemplateName.AlreadyExistsException"


class Templates:
    """The launch templates of one cluster's stack."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, tuple[str, int]] = {}

    def ensure(self, request: TemplateRequest) -> tuple[str, int]:
        """Return (id, version) of the template called for, made if it is new."""
        if request.name not in self._known:
            self._known[request.name] = (self._create(request), 1)
        return self._known[request.name]

    def forget(self, name: str) -> None:
        """Forget that a template exists: somebody deleted it."""
        self._known.pop(name, None)

    def delete_unused(self, owner: Mapping[str, str], now: datetime, age: timedelta) -> int:
        """Delete the *owner*'s templates older than *age*; a launch makes one again if need be."""
        client = self._session.client("ec2")
        filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in owner.items()]
        deleted = 0
        with errors.speaking("DescribeLaunchTemplates"):
            pages = client.get_paginator("describe_launch_templates").paginate(Filters=filters)
            old = [
                entry
                for page in pages
                for entry in page["LaunchTemplates"]
                if now - entry["CreateTime"] > age
            ]
        for entry in old:
            with errors.speaking("DeleteLaunchTemplate"):
                client.delete_launch_template(LaunchTemplateId=entry["LaunchTemplateId"])
            self.forget(entry["LaunchTemplateName"])
            deleted += 1
        return deleted

    def _create(self, request: TemplateRequest) -> str:
        client = self._session.client("ec2")
        try:
            made: dict[str, Any] = client.create_launch_template(
                LaunchTemplateName=request.name,
                LaunchTemplateData=json.loads(json.dumps(request.data)),
                TagSpecifications=tags.specifications(("launch-template",), request.tags),
                ClientToken=request.name[-64:],
            )
        except ClientError as error:
            if errors.code_of(error) != EXISTS:
                raise errors.translated(error, "CreateLaunchTemplate") from error
            return self._find(request.name)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def _find(self, name: str) -> str:
        with errors.speaking("DescribeLaunchTemplates"):
            found = self._session.client("ec2").describe_launch_templates(
                LaunchTemplateNames=[name]
            )
        return str(found["LaunchTemplates"][0]["LaunchTemplateId"])
