"""Makers of functions, their event sources, state machines and the HTTP API."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

from outrider.local.functions import Function
from outrider.local.httpapi import Route
from outrider.local.makers.maker import Json, Maker, tags, word
from outrider.local.queues import Mapping as SourceMapping
from outrider.local.region import REGION
from outrider.local.template import Made, definition, substitute


class Compute(Maker):
    """Functions, their event sources, state machines, the HTTP API."""

    def function(self, logical_id: str, properties: Json) -> Made:
        """Make a function: a record in moto, the code in the registry."""
        name = properties.get("FunctionName") or self.stack.physical(logical_id)
        environment = {
            key: word(value)
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
            Tags=tags(properties.get("Tags")),
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
            raise self.stack.invalid(f"{logical_id}: a FIFO queue allows no batching window")
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
        "OUTRIDER_KUBERNETES_WRITERS": "1",  # one write at a time: a story repeats itself
    }
