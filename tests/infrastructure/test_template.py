"""template.yaml keeps its promises: names, wiring, time limits. No account is asked."""

from __future__ import annotations

import re
from typing import Any

import pytest

from outrider import settings
from outrider.manifests import rbac
from tests.support import stack as infrastructure
from tests.support.stack import CLUSTER, NODE_ROLE, ROOT, TEMPLATE, stack

FUNCTIONS = {
    "webhook",
    "provision",
    "interrupt",
    "drain",
    "disrupt",
    "lifecycle",
    "seed",
    "catalog",
}
PLANNERS = {"provision", "interrupt", "disrupt", "lifecycle"}

PARAMETERS = {
    "ClusterName",
    "Mode",
    "DiscoveryTag",
    "NodeRoleArns",
    "LambdaSubnetIds",
    "LambdaSecurityGroupIds",
    "ClusterSecurityGroupId",
    "CreateNodeAccessEntry",
    "PermissionsBoundaryArn",
    "WebhookSecretName",
    "DisruptSchedule",
    "SolverDeadlineSeconds",
    "MaxLaunchesPerMinute",
    "SeedWarmUp",
    "MinimumSaving",
    "SpotFlexibility",
    "MovesADay",
    "SeedRetentionDays",
    "MaxDollarsPerHour",
    "LogRetentionDays",
    "SnapStart",
    "ReservedConcurrency",
    "AlarmTopicArn",
}
OUTPUTS = {
    "WebhookUrl",
    "HintQueueUrl",
    "InterruptionQueueUrl",
    "DeadLetterQueueUrls",
    "LedgerTable",
    "DecisionBus",
    "DrainStateMachine",
    "SeedStateMachine",
    "Dashboard",
}


def functions() -> dict[str, dict[str, Any]]:
    """Return each function's properties by its short name."""
    found = stack().of("AWS::Lambda::Function")
    return {name.removesuffix("Function").lower(): found[name] for name in found}


def queue_of(arn: str) -> dict[str, Any]:
    """Return the queue that *arn* names."""
    return next(q for q in stack().of("AWS::SQS::Queue").values() if arn.endswith(q["QueueName"]))


def mappings() -> list[tuple[str, dict[str, Any]]]:
    """Return every event source mapping with its function's short name."""
    return [
        (re.split(r"Function", name)[0].lower(), properties)
        for name, properties in stack().of("AWS::Lambda::EventSourceMapping").items()
    ]


def test_parameters_and_outputs_are_the_documented_ones() -> None:
    """Users automate on these names: none is missing and none is extra."""
    template = infrastructure.template()
    assert set(template["Parameters"]) == PARAMETERS
    assert set(template["Outputs"]) == OUTPUTS
    assert all(p.get("Description") for p in template["Parameters"].values())
    assert all(o.get("Description") for o in template["Outputs"].values())


def test_only_the_cluster_and_the_node_roles_have_to_be_given() -> None:
    """A first deployment needs two parameters."""
    required = {
        name
        for name, declared in infrastructure.template()["Parameters"].items()
        if "Default" not in declared
    }
    assert required == {"ClusterName", "NodeRoleArns"}


def test_functions_folders_and_flows_are_one_to_one() -> None:
    """A function has one folder and one flow, and no folder or flow is without its function."""
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    flows = ROOT / "layers/outrider/src/outrider/flows"
    assert set(functions()) == FUNCTIONS == folders
    for name in FUNCTIONS:
        declared = infrastructure.template()["Resources"][f"{name.capitalize()}Function"]
        assert declared["Properties"]["CodeUri"] == f"functions/{name}/"
        assert (flows / f"{name}.py").is_file()


def test_every_function_runs_on_the_same_runtime_behind_an_alias() -> None:
    """One runtime, one architecture; callers go through the alias `live`."""
    aliases = stack().of("AWS::Lambda::Alias")
    for name, function in functions().items():
        assert function["Runtime"] == "python3.13"
        assert function["Architectures"] == ["arm64"]
        assert function["Handler"] == "app.lambda_handler"
        assert aliases[f"{name.capitalize()}FunctionAliaslive"]["Name"] == "live"


def test_planners_alone_carry_the_solver_and_start_from_a_snapshot() -> None:
    """The solver's megabytes and SnapStart go where planning happens."""
    for name, function in functions().items():
        plans = name in PLANNERS
        assert (len(function["Layers"]) == 2) is plans
        assert ("SnapStart" in function) is plans


def test_every_function_has_a_role_of_its_own() -> None:
    """No two functions share what they may do."""
    roles = {str(function["Role"]) for function in functions().values()}
    assert len(roles) == len(FUNCTIONS)


def test_environments_are_settings() -> None:
    """Each variable is a field of Settings, and each function's environment reads cleanly."""
    fields = set(settings.Settings.model_fields)
    for name, function in functions().items():
        variables = function["Environment"]["Variables"]
        ours = {key for key in variables if key.startswith(settings.PREFIX)}
        assert {key.removeprefix(settings.PREFIX).lower() for key in ours} <= fields
        read = settings.read({**variables, "AWS_REGION": "us-east-1"})
        assert (read.cluster, read.function) == (CLUSTER, name)
        assert read.node_role_arns == (NODE_ROLE,)
        assert read.max_launches_per_minute is None


def test_every_function_but_webhook_may_enter_the_cluster() -> None:
    """An access entry names the function's role and its RBAC group; the webhook needs none."""
    entries = stack().of("AWS::EKS::AccessEntry")
    groups = {tuple(entry["KubernetesGroups"]) for entry in entries.values()}
    assert groups == {(f"outrider:{name}",) for name in FUNCTIONS - {"webhook"}}
    assert {name for (group,) in groups for name in [group.partition(":")[2]]} == set(
        rbac.FUNCTIONS
    )
    for entry in entries.values():
        function = entry["KubernetesGroups"][0].partition(":")[2].capitalize()
        assert entry["PrincipalArn"].endswith(f"{function}FunctionRole")
        assert entry["ClusterName"] == CLUSTER


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_node_roles_get_access_entries_when_asked(count: int) -> None:
    """CreateNodeAccessEntry makes one EC2_LINUX entry a node role, and none by default."""
    roles = [f"arn:aws:iam::123456789012:role/node-{number}" for number in range(max(count, 1))]
    made = stack(NodeRoleArns=",".join(roles), CreateNodeAccessEntry="true" if count else "false")
    entries = [e for e in made.of("AWS::EKS::AccessEntry").values() if e["Type"] == "EC2_LINUX"]
    assert [entry["PrincipalArn"] for entry in entries] == roles[:count]


def test_fifo_mappings_have_no_batching_window() -> None:
    """SQS refuses MaximumBatchingWindowInSeconds on FIFO sources, and no linter knows it."""
    fifo = [m for _, m in mappings() if m["EventSourceArn"].endswith(".fifo")]
    assert fifo
    assert all("MaximumBatchingWindowInSeconds" not in mapping for mapping in fifo)
    assert all(mapping["BatchSize"] <= 10 for mapping in fifo)


def test_hints_become_one_message_a_second() -> None:
    """A hint is cluster and second: de-duplicated, grouped by cluster, delayed by a second."""
    (target,) = stack().of("AWS::Events::Rule")["HintRule"]["Targets"]
    assert target["InputTransformer"] == {
        "InputPathsMap": {"cluster": "$.detail.cluster", "at": "$.time"},
        "InputTemplate": '{"version": 1, "cluster": <cluster>, "at": <at>}',
    }
    assert target["SqsParameters"] == {"MessageGroupId": CLUSTER}
    queue = queue_of(target["Arn"])
    assert queue["FifoQueue"]
    assert queue["ContentBasedDeduplication"]
    assert queue["DelaySeconds"] == 1


def test_a_message_outlasts_its_function() -> None:
    """No queue shows a message again while the function that has it may still run."""
    for name, mapping in mappings():
        queue = queue_of(mapping["EventSourceArn"])
        assert queue["VisibilityTimeout"] >= functions()[name]["Timeout"]


def test_a_lost_interrupt_is_tried_again_while_it_matters() -> None:
    """A killed interrupt function leaves its message time for a second try within two minutes."""
    queue = stack().of("AWS::SQS::Queue")["InterruptionQueue"]
    assert queue["VisibilityTimeout"] < 60
    assert queue["MessageRetentionPeriod"] == 300


def test_batches_fail_by_message() -> None:
    """One poison signal never brings its batch back; a hint's batch is one plan."""
    for name, mapping in mappings():
        reports = mapping.get("FunctionResponseTypes") == ["ReportBatchItemFailures"]
        assert reports is (name != "provision")


def test_every_queue_has_a_dead_letter_queue_with_an_alarm() -> None:
    """What is given up on is kept for two weeks, listed in the outputs and alarmed for."""
    made = stack()
    queues = made.of("AWS::SQS::Queue")
    dead = {name: queue for name, queue in queues.items() if name.endswith("DeadLetterQueue")}
    for name, queue in queues.items():
        if name not in dead:
            target = queue["RedrivePolicy"]["deadLetterTargetArn"]
            assert queue_of(target) is dead[name.replace("Queue", "DeadLetterQueue")]
            assert bool(queue.get("FifoQueue")) is target.endswith(".fifo")
    watched = {
        dimension["Value"]
        for alarm in made.of("AWS::CloudWatch::Alarm").values()
        for dimension in alarm.get("Dimensions", [])
        if dimension["Name"] == "QueueName"
    }
    names = {queue["QueueName"] for queue in dead.values()}
    assert watched == names == set(made.outputs["DeadLetterQueueUrls"].split(","))
    assert all(queue["MessageRetentionPeriod"] == 1209600 for queue in dead.values())


def test_a_hint_that_kills_its_pass_reaches_the_dead_letters() -> None:
    """It is given up on before the queue forgets it, and somebody is told."""
    queue = stack().of("AWS::SQS::Queue")["HintQueue"]
    most = queue["RedrivePolicy"]["maxReceiveCount"]
    assert most * queue["VisibilityTimeout"] < queue["MessageRetentionPeriod"]


def test_lifecycle_may_queue_for_itself() -> None:
    """Lambda ends an SQS loop after sixteen rounds; a joining node needs more looks than that."""
    assert {n for n, f in functions().items() if f.get("RecursiveLoop") == "Allow"} == {"lifecycle"}


def test_planners_wait_in_the_queue_and_not_for_the_lease() -> None:
    """No more functions run at once than one lease can use; a warning's drain needs none."""
    for name, mapping in mappings():
        if name in {"interrupt", "lifecycle"}:
            hurried = "InterruptionQueue" in str(mapping["EventSourceArn"])
            assert mapping["ScalingConfig"] == {"MaximumConcurrency": 5 if hurried else 2}


def test_queues_are_encrypted_and_named_by_their_logical_ids() -> None:
    """A queue's name says which queue it is."""
    for name, queue in stack().of("AWS::SQS::Queue").items():
        assert name in queue["QueueName"]
        assert queue["SqsManagedSseEnabled"]


def test_a_rule_that_sends_to_a_queue_may() -> None:
    """Each queue's policy names exactly the rules that write to it."""
    made = stack()
    rules = made.of("AWS::Events::Rule")
    writers: dict[str, set[str]] = {}
    for name, rule in rules.items():
        for target in rule.get("Targets", []):
            if ":sqs:" in target["Arn"]:
                source = (
                    f"arn:aws:events:us-east-1:123456789012:rule/outrider-test-{name}-0123456789AB"
                )
                writers.setdefault(target["Arn"], set()).add(source)
    allowed: dict[str, set[str]] = {}
    for policy in made.of("AWS::SQS::QueuePolicy").values():
        (statement,) = policy["PolicyDocument"]["Statement"]
        sources = statement["Condition"].get("ArnEquals", {}).get("aws:SourceArn", [])
        if sources:
            allowed[statement["Resource"]] = set(sources)
    assert allowed == writers


def test_events_are_not_delivered_late() -> None:
    """A rule's target retries for as long as the event means something, never the default day."""
    for name, rule in stack().of("AWS::Events::Rule").items():
        for target in rule["Targets"]:
            assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] <= 3600, name
        if name in {"HintRule", "InterruptionRule", "SignalRule", "InstanceGoneRule"}:
            assert rule["Targets"][0]["RetryPolicy"]["MaximumEventAgeInSeconds"] == 120
            assert rule["Targets"][0]["DeadLetterConfig"]


def test_ticks_come_on_schedule_and_on_demand() -> None:
    """Reconcile and lifecycle each minute, disruption as asked, the catalogue each quarter."""
    made = stack(DisruptSchedule="rate(7 minutes)")
    schedules = {
        name: rule["ScheduleExpression"]
        for name, rule in made.of("AWS::Events::Rule").items()
        if "ScheduleExpression" in rule
    }
    assert schedules == {
        "ProvisionFunctionTick": "rate(1 minute)",
        "LifecycleFunctionTick": "rate(1 minute)",
        "DisruptFunctionTick": "rate(7 minutes)",
        "CatalogFunctionTick": "rate(15 minutes)",
    }


def test_the_ledger_is_recoverable_and_forgets() -> None:
    """One table, on demand, with point-in-time recovery, encryption and a time to live."""
    (table,) = stack().of("AWS::DynamoDB::Table").values()
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
    assert table["SSESpecification"]["SSEEnabled"]


def test_the_webhook_is_throttled_and_its_log_leaves_the_secret_out() -> None:
    """Fifty calls a second, and an access log with the route instead of the path."""
    (stage,) = stack().of("AWS::ApiGatewayV2::Stage").values()
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": 50,
        "ThrottlingBurstLimit": 100,
    }
    logged = stage["AccessLogSettings"]["Format"]
    assert "$context.routeKey" in logged
    assert "$context.path" not in logged
    assert stack().outputs["WebhookUrl"].endswith("/hint")


def test_the_webhook_secret_is_made_only_when_none_is_named() -> None:
    """A named secret is used as it is."""
    assert len(stack().of("AWS::SecretsManager::Secret")) == 1
    named = stack(WebhookSecretName="mine")
    assert not named.of("AWS::SecretsManager::Secret")
    variables = named.of("AWS::Lambda::Function")["WebhookFunction"]["Environment"]["Variables"]
    assert variables["OUTRIDER_WEBHOOK_SECRET_NAME"] == "mine"


def test_functions_enter_a_vpc_only_when_subnets_are_given() -> None:
    """Private API endpoints are reached from subnets; the cluster's security group is opened."""
    assert all("VpcConfig" not in function for function in functions().values())
    assert not stack().of("AWS::EC2::SecurityGroupIngress")
    inside = stack(
        LambdaSubnetIds="subnet-1,subnet-2",
        LambdaSecurityGroupIds="sg-1",
        ClusterSecurityGroupId="sg-2",
    )
    for function in inside.of("AWS::Lambda::Function").values():
        assert function["VpcConfig"] == {
            "SubnetIds": ["subnet-1", "subnet-2"],
            "SecurityGroupIds": ["sg-1"],
        }
    (ingress,) = inside.of("AWS::EC2::SecurityGroupIngress").values()
    assert (ingress["GroupId"], ingress["SourceSecurityGroupId"]) == ("sg-2", "sg-1")
    assert ingress["FromPort"] == ingress["ToPort"] == 443


def test_a_permissions_boundary_binds_our_roles() -> None:
    """Every role of the stack carries the boundary when one is given."""
    boundary = "arn:aws:iam::123456789012:policy/boundary"
    roles = stack(PermissionsBoundaryArn=boundary).of("AWS::IAM::Role")
    assert all(role["PermissionsBoundary"] == boundary for role in roles.values())
    assert all("PermissionsBoundary" not in role for role in stack().of("AWS::IAM::Role").values())


def test_concurrency_is_reserved_only_when_asked() -> None:
    """A young account has nothing to reserve from."""
    assert all("ReservedConcurrentExecutions" not in f for f in functions().values())
    reserved = stack(ReservedConcurrency="5").of("AWS::Lambda::Function")
    assert {n for n, f in reserved.items() if "ReservedConcurrentExecutions" in f} == {
        "WebhookFunction",
        "ProvisionFunction",
        "InterruptFunction",
    }


def test_every_log_is_kept_for_as_long_as_was_asked() -> None:
    """No log group lives for ever, and each function writes to its own."""
    made = stack(LogRetentionDays="7")
    groups = made.of("AWS::Logs::LogGroup")
    assert all(int(group["RetentionInDays"]) == 7 for group in groups.values())
    used = {f["LoggingConfig"]["LogGroup"] for f in made.of("AWS::Lambda::Function").values()}
    assert len(used) == len(FUNCTIONS)
    assert used <= {group["LogGroupName"] for group in groups.values()}


def test_no_partition_region_or_account_is_written_down() -> None:
    """The template works in every partition, region and account."""
    text = TEMPLATE.read_text()
    for machine in (ROOT / "statemachines").iterdir():
        text += machine.read_text()
    assert "arn:aws:" not in text
    assert not re.search(r"\b\d{12}\b", text)
    assert not re.search(r"\b(us|eu|ap)-[a-z]+-\d\b", text)


def test_state_machines_are_standard_logged_and_named() -> None:
    """Executions outlive a Lambda, leave a log without their data, and bear their logical id."""
    machines = stack().of("AWS::StepFunctions::StateMachine")
    assert set(machines) == {"DrainStateMachine", "SeedStateMachine"}
    for name, machine in machines.items():
        assert machine["StateMachineType"] == "STANDARD"
        assert machine["LoggingConfiguration"]["IncludeExecutionData"] is False
        assert name in machine["StateMachineName"]
