"""What of the account keeps nodes from being launched, from joining, or functions from working.

EKS: authentication mode, endpoint, access entries of functions and nodes, Auto Mode. IAM: node
roles, Spot's service-linked role. The stack: its state, its rules, its dead letters, its catalogue.
Functions that run outside of the VPC come from addresses that nobody can list, so an endpoint that
is private, or public for a few networks only, is out of their reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from outrider.core.doctor.facts import AccessEntry, ControlPlane, Facts, Installed, NodeRole
from outrider.core.doctor.finding import Finding, Severity

ANYWHERE = frozenset({"0.0.0.0/0", "::/0"})
OLDEST = (1, 30)
NODE_KINDS = frozenset({"EC2_LINUX", "EC2"})
NEEDED_POLICIES = (
    frozenset({"AmazonEKSWorkerNodePolicy", "AmazonEKSWorkerNodeMinimalPolicy"}),
    frozenset({"AmazonEC2ContainerRegistryReadOnly", "AmazonEC2ContainerRegistryPullOnly"}),
)
CATALOG_AGE = timedelta(hours=2)
KEPT_FREE = 100  # Lambda lets nobody reserve the account's last hundred
FEW = 100  # concurrent executions that one burst of events may want

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


def judge(facts: Facts) -> Iterator[Finding]:
    """Yield what is wrong with the account."""
    yield from _stack(facts)
    if facts.control_plane is not None:
        yield from _control_plane(facts.cluster, facts.control_plane)
        yield from _endpoint(facts.cluster, facts.control_plane, facts.stack)
    if facts.entries is not None:
        yield from _function_entries(facts.entries, facts.stack)
    yield from _node_roles(facts)
    if facts.spot_role is False:
        yield Finding(
            WARNING,
            "SpotRoleMissing",
            "AWSServiceRoleForEC2Spot",
            "the account has no service-linked role for Spot: no Spot instance can be launched",
            "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
        )
    yield from _concurrency(facts)


def _control_plane(name: str, plane: ControlPlane) -> Iterator[Finding]:
    about = f"EKS cluster {name}"
    if plane.status != "ACTIVE" or plane.issues:
        what = "; ".join((f"its status is {plane.status}", *plane.issues))
        yield Finding(
            ERROR if plane.status not in {"ACTIVE", "UPDATING"} else WARNING,
            "ClusterUnwell",
            about,
            what,
            f"aws eks describe-cluster --name {name} --query cluster.health",
        )
    if plane.authentication_mode == "CONFIG_MAP":
        yield Finding(
            ERROR,
            "AuthenticationMode",
            about,
            "its authentication mode is CONFIG_MAP: access entries count for nothing",
            f"aws eks update-cluster-config --name {name}"
            " --access-config authenticationMode=API_AND_CONFIG_MAP",
        )
    if _version(plane.version) < OLDEST:
        yield Finding(
            ERROR,
            "KubernetesVersion",
            about,
            f"Kubernetes {plane.version} does not evaluate the webhook's matchConditions",
            "upgrade to 1.30 or later",
        )
    if plane.auto_mode:
        yield Finding(
            WARNING,
            "AutoMode",
            about,
            "EKS Auto Mode is on: its own Karpenter launches nodes for the same pods",
            "disable the built-in NodePools (compute-config nodePools=[]), or keep their pods"
            " apart by taints",
        )


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")[:2]
    return tuple(int(part) for part in parts) if all(map(str.isdigit, parts)) else OLDEST


def _endpoint(name: str, plane: ControlPlane, stack: Installed | None) -> Iterator[Finding]:
    if stack is None or stack.parameters.get("LambdaSubnetIds"):
        return
    vpc = "deploy with LambdaSubnetIds, LambdaSecurityGroupIds and ClusterSecurityGroupId"
    if not plane.public:
        yield Finding(
            ERROR,
            "EndpointPrivate",
            f"EKS cluster {name}",
            "its endpoint is private and the functions run outside of the VPC",
            vpc,
        )
    elif not ANYWHERE & set(plane.public_cidrs):
        yield Finding(
            ERROR,
            "EndpointCidrs",
            f"EKS cluster {name}",
            f"its endpoint admits {', '.join(plane.public_cidrs) or 'nobody'} only, and functions"
            " outside of the VPC come from any address",
            vpc,
        )


def _function_entries(
    entries: tuple[AccessEntry, ...], stack: Installed | None
) -> Iterator[Finding]:
    known = {entry.principal.rpartition("/")[2]: entry for entry in entries}
    for function, role in sorted((stack.roles if stack else {}).items()):
        group = f"outrider:{function}"
        entry = known.get(role)
        if entry is None:
            yield Finding(
                ERROR,
                "FunctionAccessEntry",
                f"function {function}",
                f"its role {role} has no access entry: the API server answers 401",
                "deploy the stack again; it makes the entry",
            )
        elif group not in entry.groups:
            yield Finding(
                ERROR,
                "FunctionAccessEntry",
                f"function {function}",
                f"its access entry does not have the group {group}",
                "aws eks update-access-entry --kubernetes-groups "
                f"{group} --principal-arn {entry.principal}",
            )


def _node_roles(facts: Facts) -> Iterator[Finding]:
    for role in facts.node_roles or ():
        if not role.exists:
            yield Finding(
                ERROR,
                "NodeRoleMissing",
                role.arn,
                "the stack may pass this role to nodes, and it does not exist",
                "make the role, or correct the parameter NodeRoleArns",
            )
            continue
        yield from _node_role(role)
        if facts.entries is not None:
            yield from _node_entry(role, facts.entries)


def _node_role(role: NodeRole) -> Iterator[Finding]:
    if not role.trusts_ec2:
        yield Finding(
            ERROR,
            "NodeRoleTrust",
            role.arn,
            "EC2 may not assume it",
            "let ec2.amazonaws.com call sts:AssumeRole in its trust policy",
        )
    lacking = [min(choice) for choice in NEEDED_POLICIES if not choice & role.policies]
    if lacking:
        yield Finding(
            WARNING,
            "NodeRolePolicies",
            role.arn,
            f"it lacks {' and '.join(lacking)}: unless policies of yours allow the same, nodes"
            " neither join nor pull",
            f"aws iam attach-role-policy --role-name {role.arn.rpartition('/')[2]} --policy-arn"
            f" arn:aws:iam::aws:policy/{lacking[0]}",
        )


def _node_entry(role: NodeRole, entries: tuple[AccessEntry, ...]) -> Iterator[Finding]:
    found = [entry for entry in entries if entry.principal == role.arn]
    if not any(entry.kind in NODE_KINDS for entry in found):
        yield Finding(
            ERROR,
            "NodeAccessEntry",
            role.arn,
            f"its access entry is of type {found[0].kind}: kubelets cannot register"
            if found
            else "it has no access entry of type EC2_LINUX: kubelets cannot register",
            "deploy with CreateNodeAccessEntry=true, or aws eks create-access-entry --type"
            f" EC2_LINUX --principal-arn {role.arn}",
        )


def _stack(facts: Facts) -> Iterator[Finding]:
    if facts.stack_missing:
        yield Finding(
            ERROR,
            "StackMissing",
            "the stack",
            facts.stack_missing,
            "deploy it (docs/deploy.md), or name it by --stack",
        )
    stack = facts.stack
    if stack is not None and not _stands(stack.status):
        yield Finding(
            ERROR,
            "StackUnwell",
            f"stack {stack.name}",
            f"its status is {stack.status}",
            f"aws cloudformation describe-stack-events --stack-name {stack.name}; deploy again",
        )
    if facts.rules_off:
        yield Finding(
            ERROR,
            "RuleDisabled",
            ", ".join(facts.rules_off),
            "these rules are disabled: what they carry reaches no function",
            f"aws events enable-rule --name {facts.rules_off[0]}",
        )
    for queue, depth in sorted((facts.dead_letters or {}).items()):
        if depth:
            yield Finding(
                WARNING,
                "DeadLetters",
                queue,
                f"{depth} message{'s' * (depth != 1)} given up on",
                "read them, mend the cause, redrive: aws sqs start-message-move-task",
            )
    yield from _catalog(facts)
    if stack is not None and stack.parameters.get("Mode") == "observe":
        yield Finding(
            NOTE,
            "Observes",
            f"stack {stack.name}",
            "its mode is observe: nothing is launched",
            "deploy with Mode=provision or full once its decisions convince you",
        )


def _stands(status: str) -> bool:
    """Return whether a stack in *status* has its resources: one whose creation failed has none."""
    return status.endswith(("_COMPLETE", "_IN_PROGRESS")) and status != "ROLLBACK_COMPLETE"


def _catalog(facts: Facts) -> Iterator[Finding]:
    fix = "read the logs of the catalog function, then invoke it"
    if facts.catalog_missing:
        yield Finding(
            ERROR, "CatalogMissing", "the catalogue", "no types and prices are stored", fix
        )
    elif facts.catalog is not None and facts.catalog.as_of is not None:
        age = facts.now - facts.catalog.as_of
        if age > CATALOG_AGE:
            hours = age.total_seconds() / 3600
            problem = f"types and prices are {hours:.0f} h old"
            yield Finding(WARNING, "CatalogOld", "the catalogue", problem, fix)


def _concurrency(facts: Facts) -> Iterator[Finding]:
    if facts.concurrency is None:
        return
    limit, free = facts.concurrency
    if free < min(FEW, KEPT_FREE):
        yield Finding(
            WARNING,
            "LambdaConcurrency",
            "Lambda",
            f"{free} of the account's {limit} concurrent executions are not reserved: a wave of"
            " interruptions is throttled",
            "aws service-quotas request-service-quota-increase --service-code lambda --quota-code"
            " L-B99A9384 --desired-value 1000",
        )
