"""The stack: every resource of the translated template, made by the API call that CloudFormation
makes.

What moto has becomes a resource of moto's; what it only records (schedules, event source mappings,
alarms) or lacks (HttpApi, access entries) goes to the room of the embedded cloud that does it. What
IAM would evaluate (permissions, policies) is stored and not enforced. A resource type without a
maker is an error: nothing of the template is skipped.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from outrider.errors import InvalidManifest
from outrider.local.alarms import Alarms
from outrider.local.functions import Function, Registry
from outrider.local.httpapi import Gateway, Route
from outrider.local.queues import Mapping as SourceMapping
from outrider.local.queues import Pollers
from outrider.local.region import ACCOUNT, REGION
from outrider.local.schedules import Schedules, Target
from outrider.local.template import Made, Resolver, Template, definition, substitute

Json = dict[str, Any]
Client = Any


@dataclass(frozen=True, slots=True)
class Rooms:
    """Where the resources go that moto does not serve."""

    client: Callable[[str], Client]
    url: str
    functions: Registry
    pollers: Pollers
    schedules: Schedules
    gateway: Gateway
    alarms: Alarms


class Stack:
    """One deployed template."""

    def __init__(
        self, template: Template, parameters: Mapping[str, Any], rooms: Rooms, name: str
    ) -> None:
        self.name = name
        self.template = template
        self.parameters = dict(parameters)
        self.made: dict[str, Made] = {}
        self.outputs: dict[str, str] = {}
        self._rooms = rooms
        self._making: list[str] = []
        self._resolver = Resolver(template, _typed(template, parameters), self.make, name)
        self._makers = _makers(self)

    def deploy(self) -> None:
        """Make every resource whose condition holds, then evaluate the Outputs."""
        for logical_id, resource in self.template.resources.items():
            if self._wanted(resource):
                self.make(logical_id)
        for key, output in self.template.outputs.items():
            if self._wanted(output):
                self.outputs[key] = self._rooms.gateway.local(
                    str(self._resolver.value(output["Value"]))
                )

    def _wanted(self, declared: Json) -> bool:
        condition = declared.get("Condition")
        return condition is None or self._resolver.condition(condition)

    def make(self, logical_id: str) -> Made:
        """Return the resource, made now if it is not there yet."""
        if logical_id in self.made:
            return self.made[logical_id]
        resource = self.template.resources.get(logical_id)
        if resource is None:
            raise self._invalid(f"no resource or parameter {logical_id}")
        if logical_id in self._making:
            raise self._invalid(f"circular: {' > '.join([*self._making, logical_id])}")
        kind = resource["Type"]
        if kind not in self._makers:
            raise self._invalid(f"{logical_id}: the embedded cloud cannot make {kind}")
        self._making.append(logical_id)
        try:
            after = resource.get("DependsOn", [])
            for other in [after] if isinstance(after, str) else after:
                if self._wanted(self.template.resources[other]):
                    self.make(other)
            properties = self._resolver.value(resource.get("Properties", {}))
            made = self._makers[kind](logical_id, properties)
        finally:
            self._making.pop()
        self.made[logical_id] = made
        return made

    def _invalid(self, problem: str) -> InvalidManifest:
        return InvalidManifest(problem, where=str(self.template.path))

    def physical(self, logical_id: str, suffix: str = "", limit: int = 64) -> str:
        """Return a name as CloudFormation makes one: stack, logical id, a fixed hash."""
        digest = hashlib.sha256(f"{self.name}/{logical_id}".encode()).hexdigest()[:12].upper()
        room = limit - len(digest) - len(suffix) - 1
        return f"{f'{self.name}-{logical_id}'[:room]}-{digest}{suffix}"

    def function(self, reference: str) -> Function:
        """Return the function that a property names."""
        function = self._rooms.functions.find(reference)
        if function is None:
            raise self._invalid(f"no function {reference}")
        return function


def _typed(template: Template, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by their declared types: lists are split."""
    typed: dict[str, Any] = {}
    for name, value in parameters.items():
        kind = template.parameters.get(name, {}).get("Type", "String")
        is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
        typed[name] = [part for part in str(value).split(",") if part] if is_list else value
    return typed


Maker = Callable[[str, Json], Made]


def _makers(stack: Stack) -> dict[str, Maker]:
    """Return the maker of each resource type."""
    messaging, compute, rest = _Messaging(stack), _Compute(stack), _Rest(stack)
    return {
        "AWS::SQS::Queue": messaging.queue,
        "AWS::SQS::QueuePolicy": messaging.queue_policy,
        "AWS::SNS::Topic": messaging.topic,
        "AWS::SNS::TopicPolicy": messaging.recorded,
        "AWS::SNS::Subscription": messaging.subscription,
        "AWS::Events::EventBus": messaging.bus,
        "AWS::Events::EventBusPolicy": messaging.recorded,
        "AWS::Events::Rule": messaging.rule,
        "AWS::Events::Archive": messaging.archive,
        "AWS::Scheduler::Schedule": messaging.schedule,
        "AWS::Scheduler::ScheduleGroup": messaging.schedule_group,
        "AWS::Lambda::Function": compute.function,
        "AWS::Lambda::LayerVersion": compute.layer,
        "AWS::Lambda::Version": compute.version,
        "AWS::Lambda::Alias": compute.alias,
        "AWS::Lambda::Permission": compute.permission,
        "AWS::Lambda::EventSourceMapping": compute.source_mapping,
        "AWS::Lambda::EventInvokeConfig": compute.invoke_config,
        "AWS::StepFunctions::StateMachine": compute.state_machine,
        "AWS::ApiGatewayV2::Api": compute.http_api,
        "AWS::ApiGatewayV2::Stage": compute.http_stage,
        "AWS::IAM::Role": rest.role,
        "AWS::IAM::Policy": rest.policy,
        "AWS::IAM::ManagedPolicy": rest.managed_policy,
        "AWS::IAM::InstanceProfile": rest.instance_profile,
        "AWS::DynamoDB::Table": rest.table,
        "AWS::CloudWatch::Alarm": rest.alarm,
        "AWS::CloudWatch::Dashboard": rest.dashboard,
        "AWS::Logs::LogGroup": rest.log_group,
        "AWS::EKS::AccessEntry": rest.access_entry,
        "AWS::SSM::Parameter": rest.parameter,
        "AWS::SecretsManager::Secret": rest.secret,
        "AWS::KMS::Key": rest.key,
        "AWS::KMS::Alias": rest.key_alias,
        "AWS::EC2::SecurityGroup": rest.security_group,
        "AWS::EC2::SecurityGroupIngress": rest.ingress,
    }


class _Maker:
    """What the makers share: the stack and its clients."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.rooms = stack._rooms
        self.client = stack._rooms.client

    def recorded(self, logical_id: str, _properties: Json) -> Made:
        """Keep a resource that only IAM's evaluation would read."""
        return Made(self.stack.physical(logical_id))


class _Messaging(_Maker):
    """Queues, topics, buses, rules, schedules."""

    def queue(self, logical_id: str, properties: Json) -> Made:
        """Make a queue whose name carries its logical id."""
        fifo = str(properties.get("FifoQueue", "")).lower() == "true"
        name = properties.get("QueueName") or self.stack.physical(
            logical_id, ".fifo" if fifo else "", 80
        )
        attributes = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in properties.items()
            if key not in ("QueueName", "Tags", "RedriveAllowPolicy")
        }
        url = self.client("sqs").create_queue(
            QueueName=name, Attributes=attributes, tags=_tags(properties.get("Tags"))
        )["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        return Made(url, {"Arn": arn, "QueueName": name, "QueueUrl": url})

    def queue_policy(self, logical_id: str, properties: Json) -> Made:
        """Set the policy of the queues named."""
        for url in properties["Queues"]:
            self.client("sqs").set_queue_attributes(
                QueueUrl=url, Attributes={"Policy": json.dumps(properties["PolicyDocument"])}
            )
        return self.recorded(logical_id, properties)

    def topic(self, logical_id: str, properties: Json) -> Made:
        """Make an SNS topic."""
        name = properties.get("TopicName") or self.stack.physical(logical_id)
        arn = self.client("sns").create_topic(Name=name)["TopicArn"]
        for one in properties.get("Subscription", []):
            self.client("sns").subscribe(
                TopicArn=arn, Protocol=one["Protocol"], Endpoint=one["Endpoint"]
            )
        return Made(arn, {"TopicArn": arn, "TopicName": name})

    def subscription(self, _logical_id: str, properties: Json) -> Made:
        """Subscribe to a topic."""
        made = self.client("sns").subscribe(
            TopicArn=properties["TopicArn"],
            Protocol=properties["Protocol"],
            Endpoint=properties.get("Endpoint", ""),
            ReturnSubscriptionArn=True,
        )
        return Made(made["SubscriptionArn"], {"Arn": made["SubscriptionArn"]})

    def bus(self, _logical_id: str, properties: Json) -> Made:
        """Make an event bus."""
        name = properties["Name"]
        arn = self.client("events").create_event_bus(Name=name)["EventBusArn"]
        return Made(name, {"Arn": arn, "Name": name})

    def rule(self, logical_id: str, properties: Json) -> Made:
        """Make a rule with its targets; one with a schedule goes to the clock as well."""
        bus = properties.get("EventBusName", "default")
        name = properties.get("Name") or self.stack.physical(logical_id)
        request: Json = {"Name": name, "State": properties.get("State", "ENABLED")}
        if "Description" in properties:
            request["Description"] = properties["Description"]
        if "EventPattern" in properties:
            request["EventPattern"] = json.dumps(properties["EventPattern"])
            request["EventBusName"] = bus
        if "ScheduleExpression" in properties:
            request["ScheduleExpression"] = properties["ScheduleExpression"]
        events = self.client("events")
        arn = events.put_rule(**request)["RuleArn"]
        if properties.get("Targets"):
            events.put_targets(Rule=name, EventBusName=bus, Targets=properties["Targets"])
        return Made(name if bus == "default" else f"{bus}|{name}", {"Arn": arn})

    def archive(self, logical_id: str, properties: Json) -> Made:
        """Make an archive of a bus."""
        name = properties.get("ArchiveName") or self.stack.physical(logical_id, "", 48)
        request = {key: value for key, value in properties.items() if key != "ArchiveName"}
        if "EventPattern" in request:
            request["EventPattern"] = json.dumps(request["EventPattern"])
        arn = self.client("events").create_archive(
            **{**request, "ArchiveName": name, "EventSourceArn": request.pop("SourceArn")}
        )["ArchiveArn"]
        return Made(name, {"Arn": arn, "ArchiveName": name})

    def schedule(self, logical_id: str, properties: Json) -> Made:
        """Make a schedule of EventBridge Scheduler, and put it on the clock."""
        name = properties.get("Name") or self.stack.physical(logical_id)
        arn = self.client("scheduler").create_schedule(**{**properties, "Name": name})[
            "ScheduleArn"
        ]
        target = properties["Target"]
        retry = target.get("RetryPolicy", {})
        if properties.get("State", "ENABLED") == "ENABLED":
            self.rooms.schedules.add(
                name,
                properties["ScheduleExpression"],
                Target(
                    arn=target["Arn"],
                    payload=target.get("Input"),
                    dead_letters=target.get("DeadLetterConfig", {}).get("Arn", ""),
                    attempts=int(retry.get("MaximumRetryAttempts", 185)),
                    group=target.get("SqsParameters", {}).get("MessageGroupId", ""),
                ),
                at_once=True,
            )
        return Made(name, {"Arn": arn})

    def schedule_group(self, logical_id: str, properties: Json) -> Made:
        """Make a group of schedules."""
        name = properties.get("Name") or self.stack.physical(logical_id)
        arn = self.client("scheduler").create_schedule_group(Name=name)["ScheduleGroupArn"]
        return Made(name, {"Arn": arn})


class _Compute(_Maker):
    """Functions, their event sources, state machines, the HTTP API."""

    def function(self, logical_id: str, properties: Json) -> Made:
        """Make a function: a record in moto, the code in the registry."""
        name = properties.get("FunctionName") or self.stack.physical(logical_id)
        environment = {
            key: _word(value)
            for key, value in properties.get("Environment", {}).get("Variables", {}).items()
        }
        timeout = int(properties.get("Timeout", 3))
        memory = int(properties.get("MemorySize", 128))
        self.client("lambda").create_function(
            FunctionName=name,
            Runtime=properties["Runtime"],
            Role=properties["Role"],
            Handler=properties["Handler"],
            Code={"ZipFile": _ZIP},
            Timeout=timeout,
            MemorySize=memory,
            Environment={"Variables": environment},
            Layers=properties.get("Layers", []),
            Architectures=properties.get("Architectures", ["x86_64"]),
            Tags=_tags(properties.get("Tags")),
        )
        access_key = "ASIA" + hashlib.sha256(name.encode()).hexdigest()[:16].upper()
        concurrency = properties.get("ReservedConcurrentExecutions")
        function = Function(
            logical_id=logical_id,
            name=name,
            code=self.stack.template.code[logical_id],
            handler=properties["Handler"],
            environment={
                **_runtime_variables(name, properties, access_key, self.rooms.url),
                **environment,
            },
            timeout=timeout,
            memory=memory,
            role=properties["Role"],
            access_key=access_key,
            concurrency=None if concurrency in (None, "") else int(concurrency),
            on_failure=properties.get("DeadLetterConfig", {}).get("TargetArn", ""),
        )
        self.rooms.functions.add(function)
        return Made(name, {"Arn": function.arn})

    def layer(self, logical_id: str, properties: Json) -> Made:
        """Publish a layer; its content is the installed package."""
        made = self.client("lambda").publish_layer_version(
            LayerName=properties.get("LayerName", logical_id), Content={"ZipFile": _ZIP}
        )
        return Made(made["LayerVersionArn"], {"LayerVersionArn": made["LayerVersionArn"]})

    def version(self, _logical_id: str, properties: Json) -> Made:
        """Publish a version of a function."""
        made = self.client("lambda").publish_version(FunctionName=properties["FunctionName"])
        return Made(
            f"{self.stack.function(properties['FunctionName']).arn}:{made['Version']}",
            {"Version": made["Version"], "FunctionArn": made["FunctionArn"]},
        )

    def alias(self, _logical_id: str, properties: Json) -> Made:
        """Point an alias at a version."""
        made = self.client("lambda").create_alias(
            FunctionName=properties["FunctionName"],
            Name=properties["Name"],
            FunctionVersion=properties["FunctionVersion"],
        )
        return Made(made["AliasArn"], {"AliasArn": made["AliasArn"]})

    def permission(self, logical_id: str, properties: Json) -> Made:
        """Keep a permission; its function has to exist."""
        self.stack.function(properties["FunctionName"])
        return self.recorded(logical_id, properties)

    def source_mapping(self, logical_id: str, properties: Json) -> Made:
        """Let a queue feed a function."""
        source = properties["EventSourceArn"]
        fifo = source.endswith(".fifo")
        if fifo and int(properties.get("MaximumBatchingWindowInSeconds", 0)):
            raise self.stack._invalid(f"{logical_id}: a FIFO queue allows no batching window")
        self.rooms.pollers.add(
            SourceMapping(
                queue=source.rpartition(":")[2],
                function=self.stack.function(properties["FunctionName"]),
                batch_size=int(properties.get("BatchSize", 10)),
                window=float(properties.get("MaximumBatchingWindowInSeconds", 0)),
                partial="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
                concurrency=int(properties.get("ScalingConfig", {}).get("MaximumConcurrency", 5)),
                enabled=str(properties.get("Enabled", True)).lower() == "true",
            )
        )
        return Made(self.stack.physical(logical_id))

    def invoke_config(self, logical_id: str, properties: Json) -> Made:
        """Set how often and how long an asynchronous invocation is tried."""
        function = self.stack.function(properties["FunctionName"])
        function.retries = int(properties.get("MaximumRetryAttempts", function.retries))
        function.max_age = float(properties.get("MaximumEventAgeInSeconds", function.max_age))
        failure = properties.get("DestinationConfig", {}).get("OnFailure", {})
        function.on_failure = failure.get("Destination", function.on_failure)
        return self.recorded(logical_id, properties)

    def state_machine(self, logical_id: str, properties: Json) -> Made:
        """Make a state machine of moto's interpreter."""
        name = properties.get("StateMachineName") or self.stack.physical(logical_id, "", 80)
        substitutions = properties.get("DefinitionSubstitutions", {})
        if logical_id in self.stack.template.definitions:
            text = definition(self.stack.template.definitions[logical_id], substitutions)
        else:
            text = substitute(
                properties.get("DefinitionString") or json.dumps(properties["Definition"]),
                substitutions,
            )
        arn = self.client("stepfunctions").create_state_machine(
            name=name,
            definition=text,
            roleArn=properties["RoleArn"],
            type=properties.get("StateMachineType", "STANDARD"),
        )["stateMachineArn"]
        return Made(arn, {"Arn": arn, "Name": name})

    def http_api(self, logical_id: str, properties: Json) -> Made:
        """Open the routes of an HTTP API's OpenAPI body."""
        api_id = hashlib.sha256(self.stack.physical(logical_id).encode()).hexdigest()[:10]
        routes = []
        for path, methods in properties.get("Body", {}).get("paths", {}).items():
            for method, operation in methods.items():
                integration = operation["x-amazon-apigateway-integration"]
                reference = integration["uri"].split("/functions/")[1].split("/")[0]
                verb = "ANY" if "any" in method else method.upper()
                routes.append(Route(verb, path, self.stack.function(reference)))
        self.rooms.gateway.open(api_id, routes)
        endpoint = f"https://{api_id}.execute-api.{REGION}.amazonaws.com"
        return Made(api_id, {"ApiEndpoint": endpoint, "ApiId": api_id})

    def http_stage(self, _logical_id: str, properties: Json) -> Made:
        """Set the throttle of an HTTP API's stage."""
        settings = properties.get("DefaultRouteSettings", {})
        self.rooms.gateway.throttle(
            properties["ApiId"],
            float(settings.get("ThrottlingRateLimit", 10_000)),
            int(settings.get("ThrottlingBurstLimit", 5_000)),
            properties.get("StageName", "$default"),
        )
        return Made(properties["StageName"])


class _Rest(_Maker):
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
                {"Key": key, "Value": value} for key, value in _tags(properties.get("Tags")).items()
            ],
            **extra,
        )["Role"]
        for policy in properties.get("Policies", []):
            iam.put_role_policy(
                RoleName=name,
                PolicyName=policy["PolicyName"],
                PolicyDocument=_document(policy["PolicyDocument"]),
            )
        return Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def policy(self, logical_id: str, properties: Json) -> Made:
        """Attach an inline policy to the roles named."""
        for role in properties.get("Roles", []):
            self.client("iam").put_role_policy(
                RoleName=role,
                PolicyName=properties["PolicyName"],
                PolicyDocument=_document(properties["PolicyDocument"]),
            )
        return self.recorded(logical_id, properties)

    def managed_policy(self, logical_id: str, properties: Json) -> Made:
        """Make a managed policy and attach it."""
        name = properties.get("ManagedPolicyName") or self.stack.physical(logical_id)
        iam = self.client("iam")
        arn = iam.create_policy(
            PolicyName=name, PolicyDocument=_document(properties["PolicyDocument"])
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
        self.client("cloudwatch").put_metric_alarm(**_numbers({**request, "AlarmName": name}))
        self.rooms.alarms.add(name, _numbers(request))
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


def _document(policy: Json) -> str:
    """Return a policy as text; one without a version has IAM's old default, which moto refuses."""
    return json.dumps({"Version": "2012-10-17", **policy})


def _zip() -> bytes:
    """Return the smallest archive: moto wants one, the code is on disk."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("app.py", "")
    return archive.getvalue()


_ZIP = _zip()


def _runtime_variables(
    name: str, properties: Json, access_key: str, endpoint: str
) -> dict[str, str]:
    """Return what the Lambda runtime sets, and where AWS is."""
    return {
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(properties.get("MemorySize", 128)),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "local",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{properties['Runtime']}",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "_HANDLER": properties["Handler"],
        "LAMBDA_TASK_ROOT": "/var/task",
        "TZ": ":UTC",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 - where Lambda's HOME is
        "POWERTOOLS_METRICS_DISABLED": "false",
    }


def _tags(tags: Any) -> dict[str, str]:
    if isinstance(tags, list):
        return {tag["Key"]: _word(tag["Value"]) for tag in tags}
    return {key: _word(value) for key, value in (tags or {}).items()}


def _word(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


_NUMERIC = {"Period", "EvaluationPeriods", "DatapointsToAlarm"}


def _numbers(tree: Any, key: str = "") -> Any:
    """Return *tree* with the numbers of an alarm as numbers: templates may write them as text."""
    if isinstance(tree, dict):
        return {name: _numbers(child, name) for name, child in tree.items()}
    if isinstance(tree, list):
        return [_numbers(child, key) for child in tree]
    if key in _NUMERIC:
        return int(tree)
    if key == "Threshold":
        return float(tree)
    if key in ("ReturnData", "ActionsEnabled"):
        return str(tree).lower() == "true"
    return tree
