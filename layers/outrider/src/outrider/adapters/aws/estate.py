"""What a stack leaves behind in an account, and its removal: rules, executions, templates,
profiles, tags.

Everything is found by the owner's tags, by the stack's resources or by the name that this stack's
profiles begin with, and every removal may be repeated. Refuses to decide what goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from outrider.adapters.aws import errors, stacks
from outrider.adapters.aws.network import tag_filters
from outrider.adapters.aws.session import Session
from outrider.apis import labels
from outrider.core.launch import tags

LIVE = ("pending", "running", "stopping", "stopped")
# What else than instances carries tags of ours: how it is listed, and what its id is called.
TAGGED = (
    ("describe_volumes", "Volumes", "VolumeId"),
    ("describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    ("describe_snapshots", "Snapshots", "SnapshotId"),
    ("describe_launch_templates", "LaunchTemplates", "LaunchTemplateId"),
)
OURS = (labels.MANAGED_BY, labels.DECISION, labels.SEED, labels.EXPIRES)


class Estate:
    """What the *stack* of a *cluster* has made outside of its template."""

    def __init__(self, session: Session, cluster: str, stack: str) -> None:
        self._session = session
        self._cluster = cluster
        self._stack = stack
        self._owner = {tags.EKS_CLUSTER: cluster, labels.MANAGED_BY: stack}

    # --- what makes more --------------------------------------------------------------------------

    def rules(self) -> tuple[str, ...]:
        """Return the stack's rules that are enabled."""
        client = self._session.client("events")
        found = []
        for name in self._resources("AWS::Events::Rule"):
            with errors.speaking("DescribeRule"):
                if client.describe_rule(Name=name)["State"].startswith("ENABLED"):
                    found.append(name)
        return tuple(found)

    def disable(self, rule: str) -> None:
        """Disable a rule."""
        with errors.speaking("DisableRule"):
            self._session.client("events").disable_rule(Name=rule)

    def executions(self) -> tuple[str, ...]:
        """Return the ARNs of the stack's executions that run."""
        found = []
        for machine in self._resources("AWS::StepFunctions::StateMachine"):
            with errors.speaking("ListExecutions"):
                pages = self._session.client("stepfunctions").get_paginator("list_executions")
                for page in pages.paginate(stateMachineArn=machine, statusFilter="RUNNING"):
                    found += [str(one["executionArn"]) for one in page["executions"]]
        return tuple(found)

    def stop(self, execution: str) -> None:
        """Stop an execution."""
        with errors.speaking("StopExecution"):
            self._session.client("stepfunctions").stop_execution(
                executionArn=execution, cause="outrider uninstall"
            )

    # --- what was made ----------------------------------------------------------------------------

    def templates(self) -> tuple[str, ...]:
        """Return the ids of our launch templates."""
        with errors.speaking("DescribeLaunchTemplates"):
            pages = self._session.client("ec2").get_paginator("describe_launch_templates")
            return tuple(
                str(entry["LaunchTemplateId"])
                for page in pages.paginate(Filters=tag_filters(self._owner))
                for entry in page["LaunchTemplates"]
            )

    def delete_template(self, template: str) -> None:
        """Delete a launch template; one that is gone is fine."""
        _tolerant(
            "DeleteLaunchTemplate",
            lambda: self._session.client("ec2").delete_launch_template(LaunchTemplateId=template),
        )

    def profiles(self) -> tuple[str, ...]:
        """Return the names of our instance profiles: by name first, then by their tags."""
        client = self._session.client("iam")
        with errors.speaking("ListInstanceProfiles"):
            names = [
                str(entry["InstanceProfileName"])
                for page in client.get_paginator("list_instance_profiles").paginate()
                for entry in page["InstanceProfiles"]
                if entry["InstanceProfileName"].startswith(f"outrider-{self._cluster}-")
            ]
        return tuple(name for name in names if self._owns(client, name))

    def _owns(self, client: Any, profile: str) -> bool:
        with errors.speaking("GetInstanceProfile"):  # a list of profiles comes without tags
            found = client.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]
        return self._owner.items() <= tags.read(found.get("Tags")).items()

    def delete_profile(self, profile: str) -> None:
        """Empty and delete an instance profile; one that is gone is fine."""
        client = self._session.client("iam")

        def delete() -> None:
            found = client.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]
            for role in found["Roles"]:
                client.remove_role_from_instance_profile(
                    InstanceProfileName=profile, RoleName=role["RoleName"]
                )
            client.delete_instance_profile(InstanceProfileName=profile)

        _tolerant("DeleteInstanceProfile", delete)

    # --- marks ------------------------------------------------------------------------------------

    def release(self, instance_ids: Sequence[str]) -> None:
        """Take our marks off instances, their volumes and their interfaces."""
        client = self._session.client("ec2")
        with errors.speaking("DescribeInstances"):
            found = client.describe_instances(InstanceIds=list(instance_ids))
        things = list(instance_ids)
        for reservation in found["Reservations"]:
            for entry in reservation["Instances"]:
                devices = entry.get("BlockDeviceMappings", ())
                things += [one["Ebs"]["VolumeId"] for one in devices if "Ebs" in one]
                things += [one["NetworkInterfaceId"] for one in entry.get("NetworkInterfaces", ())]
        with errors.speaking("DeleteTags"):
            client.delete_tags(Resources=things, Tags=[{"Key": key} for key in OURS])

    def tagged(self) -> tuple[str, ...]:
        """Return the ids of everything that still carries our tags.

        Ended instances show theirs for an hour, instant fleets for as long as EC2 remembers them;
        neither costs anything, and neither can be deleted.
        """
        client = self._session.client("ec2")
        filters = tag_filters({labels.MANAGED_BY: self._stack})
        living = {"Name": "instance-state-name", "Values": [*LIVE]}
        found: list[str] = []
        for operation, things, name in TAGGED:
            with errors.speaking(operation):
                for page in client.get_paginator(operation).paginate(Filters=filters):
                    found += [str(one[name]) for one in page[things]]
        with errors.speaking("describe_instances"):
            pages = client.get_paginator("describe_instances").paginate(Filters=[*filters, living])
            for page in pages:
                for reservation in page["Reservations"]:
                    found += [str(one["InstanceId"]) for one in reservation["Instances"]]
        return tuple(sorted(found))

    def _resources(self, kind: str) -> tuple[str, ...]:
        return tuple(
            physical_id
            for _, found, physical_id in stacks.resources(self._session, self._stack)
            if found == kind
        )


def _tolerant(doing: str, delete: Any) -> None:
    """Delete; what is gone already is gone."""
    try:
        delete()
    except ClientError as error:
        if errors.code_of(error) not in errors.NOT_FOUND:
            raise errors.translated(error, doing) from error
