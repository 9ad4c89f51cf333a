"""Makers of what keeps: identity, storage, observation, access."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from outrider.local.makers.maker import Json, Maker, tags
from outrider.local.region import ACCOUNT, REGION
from outrider.local.template import Made


class Keeping(Maker):
    """Identity, storage, observation."""

    def role(self, logical_id: str, properties: Json) -> Made:
        """Make a role with its inline policies; managed ones of AWS are taken as given."""
        name = properties.get("RoleName") or self.stack.physical(logical_id)
        iam = self.client("iam")
        extra = {}
        if boundary := properties.get("PermissionsBoundary"):
            extra["PermissionsBoundary"] = boundary
        role = iam.create_role(
            RoleName=name,
            Path=properties.get("Path", "/"),
            AssumeRolePolicyDocument=json.dumps(properties["AssumeRolePolicyDocument"]),
            Tags=[
                {"Key": key, "Value": value} for key, value in tags(properties.get("Tags")).items()
            ],
            **extra,
        )["Role"]
        for policy in properties.get("Policies", []):
            iam.put_role_policy(
                RoleName=name,
                PolicyName=policy["PolicyName"],
                PolicyDocument=document(policy["PolicyDocument"]),
            )
        return Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def policy(self, logical_id: str, properties: Json) -> Made:
        """Attach an inline policy to the roles named."""
        for role in properties.get("Roles", []):
            self.client("iam").put_role_policy(
                RoleName=role,
                PolicyName=properties["PolicyName"],
                PolicyDocument=document(properties["PolicyDocument"]),
            )
        return self.recorded(logical_id, properties)

    def managed_policy(self, logical_id: str, properties: Json) -> Made:
        """Make a managed policy and attach it."""
        name = properties.get("ManagedPolicyName") or self.stack.physical(logical_id)
        iam = self.client("iam")
        arn = iam.create_policy(
            PolicyName=name, PolicyDocument=document(properties["PolicyDocument"])
        )["Policy"]["Arn"]
        for role in properties.get("Roles", []):
            iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        return Made(arn, {"PolicyArn": arn})

    def instance_profile(self, logical_id: str, properties: Json) -> Made:
        """Make an instance profile with its role."""
        name = properties.get("InstanceProfileName") or self.stack.physical(logical_id)
        iam = self.client("iam")
        profile = iam.create_instance_profile(
            InstanceProfileName=name, Path=properties.get("Path", "/")
        )["InstanceProfile"]
        for role in properties["Roles"]:
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)
        return Made(name, {"Arn": profile["Arn"]})

    def table(self, logical_id: str, properties: Json) -> Made:
        """Make a table, with its time to live."""
        name = properties.get("TableName") or self.stack.physical(logical_id)
        dynamodb = self.client("dynamodb")
        known = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
        request = {key: properties[key] for key in known if key in properties}
        if "ProvisionedThroughput" in properties:
            request["ProvisionedThroughput"] = properties["ProvisionedThroughput"]
        arn = dynamodb.create_table(TableName=name, **request)["TableDescription"]["TableArn"]
        if ttl := properties.get("TimeToLiveSpecification"):
            dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
        return Made(name, {"Arn": arn})

    def alarm(self, logical_id: str, properties: Json) -> Made:
        """Make an alarm, and have it evaluated."""
        name = properties.get("AlarmName") or self.stack.physical(logical_id)
        request = {key: value for key, value in properties.items() if key != "Tags"}
        self.client("cloudwatch").put_metric_alarm(**numbers({**request, "AlarmName": name}))
        self.rooms.alarms.add(name, numbers(request))
        arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}"
        return Made(name, {"Arn": arn})

    def dashboard(self, logical_id: str, properties: Json) -> Made:
        """Put a dashboard."""
        name = properties.get("DashboardName") or self.stack.physical(logical_id)
        body = properties["DashboardBody"]
        self.client("cloudwatch").put_dashboard(
            DashboardName=name, DashboardBody=body if isinstance(body, str) else json.dumps(body)
        )
        return Made(name)

    def log_group(self, logical_id: str, properties: Json) -> Made:
        """Make a log group with its retention."""
        name = properties.get("LogGroupName") or self.stack.physical(logical_id)
        logs = self.client("logs")
        logs.create_log_group(logGroupName=name)
        if days := properties.get("RetentionInDays"):
            logs.put_retention_policy(logGroupName=name, retentionInDays=int(days))
        return Made(name, {"Arn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:*"})

    def access_entry(self, _logical_id: str, properties: Json) -> Made:
        """Let a role into the cluster, with its Kubernetes groups."""
        made = self.client("eks").create_access_entry(
            clusterName=properties["ClusterName"],
            principalArn=properties["PrincipalArn"],
            kubernetesGroups=properties.get("KubernetesGroups", []),
            type=properties.get("Type", "STANDARD"),
            **({"username": properties["Username"]} if properties.get("Username") else {}),
        )["accessEntry"]
        for policy in properties.get("AccessPolicies", []):
            scope = policy["AccessScope"]
            self.client("eks").associate_access_policy(
                clusterName=properties["ClusterName"],
                principalArn=properties["PrincipalArn"],
                policyArn=policy["PolicyArn"],
                accessScope={"type": scope["Type"], "namespaces": scope.get("Namespaces", [])},
            )
        identity = f"{properties['PrincipalArn']}|{properties['ClusterName']}"
        return Made(identity, {"AccessEntryArn": made["accessEntryArn"]})

    def parameter(self, logical_id: str, properties: Json) -> Made:
        """Put an SSM parameter."""
        name = properties.get("Name") or self.stack.physical(logical_id)
        self.client("ssm").put_parameter(
            Name=name, Value=properties["Value"], Type=properties["Type"], Overwrite=True
        )
        return Made(name, {"Value": properties["Value"], "Type": properties["Type"]})

    def secret(self, logical_id: str, properties: Json) -> Made:
        """Make a secret, generated if the template says so."""
        name = properties.get("Name") or self.stack.physical(logical_id)
        value = properties.get("SecretString")
        if value is None:
            value = self._generated(logical_id, properties.get("GenerateSecretString", {}))
        arn = self.client("secretsmanager").create_secret(Name=name, SecretString=value)["ARN"]
        return Made(arn, {"Id": arn})

    def _generated(self, logical_id: str, wanted: Json) -> str:
        length = int(wanted.get("PasswordLength", 32))
        seed = self.stack.physical(logical_id).encode()
        password = (hashlib.sha512(seed).hexdigest() * (length // 128 + 1))[:length]
        if key := wanted.get("GenerateStringKey"):
            return json.dumps({**json.loads(wanted["SecretStringTemplate"]), key: password})
        return password

    def key(self, _logical_id: str, properties: Json) -> Made:
        """Make a KMS key."""
        made = self.client("kms").create_key(Description=properties.get("Description", ""))
        return Made(
            made["KeyMetadata"]["KeyId"],
            {"Arn": made["KeyMetadata"]["Arn"], "KeyId": made["KeyMetadata"]["KeyId"]},
        )

    def key_alias(self, _logical_id: str, properties: Json) -> Made:
        """Name a KMS key."""
        self.client("kms").create_alias(
            AliasName=properties["AliasName"], TargetKeyId=properties["TargetKeyId"]
        )
        return Made(properties["AliasName"])

    def security_group(self, logical_id: str, properties: Json) -> Made:
        """Make a security group."""
        made = self.client("ec2").create_security_group(
            GroupName=properties.get("GroupName") or self.stack.physical(logical_id),
            Description=properties["GroupDescription"],
            VpcId=properties["VpcId"],
        )
        return Made(made["GroupId"], {"GroupId": made["GroupId"], "VpcId": properties["VpcId"]})

    def ingress(self, logical_id: str, properties: Json) -> Made:
        """Open a security group to another."""
        pair = {"GroupId": properties["SourceSecurityGroupId"]}
        self.client("ec2").authorize_security_group_ingress(
            GroupId=properties["GroupId"],
            IpPermissions=[
                {
                    "IpProtocol": properties["IpProtocol"],
                    "FromPort": int(properties["FromPort"]),
                    "ToPort": int(properties["ToPort"]),
                    "UserIdGroupPairs": [pair],
                }
            ],
        )
        return self.recorded(logical_id, properties)


def document(policy: Json) -> str:
    """Return a policy as text; one without a version has IAM's old default, which moto refuses."""
    return json.dumps({"Version": "2012-10-17", **policy})


_NUMERIC = {"Period", "EvaluationPeriods", "DatapointsToAlarm"}


def numbers(tree: Any, key: str = "") -> Any:
    """Return *tree* with the numbers of an alarm as numbers: templates may write them as text."""
    if isinstance(tree, dict):
        return {name: numbers(child, name) for name, child in tree.items()}
    if isinstance(tree, list):
        return [numbers(child, key) for child in tree]
    if key in _NUMERIC:
        return int(tree)
    if key == "Threshold":
        return float(tree)
    if key in ("ReturnData", "ActionsEnabled"):
        return str(tree).lower() == "true"
    return tree
