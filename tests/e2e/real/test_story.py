"""The whole story with the real scheduler, controllers and API server in it.

The embedded account plays EC2 and the kubelets; everything that Kubernetes decides here, Kubernetes
decides: who is Unschedulable, which Event fires the webhook, what a PodDisruptionBudget allows,
where a pod is bound, what a role may do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from outrider.manifests import rbac
from tests.conformance.probe import MERGE, Obj, Reply
from tests.e2e.real.admin import Administrator
from tests.e2e.real.audit import OURS
from tests.e2e.real.grants import in_words, unused
from tests.e2e.real.karpenter import node_class, node_pool, wish
from tests.e2e.real.plugin import Figure
from tests.e2e.real.town import Town

POOL = "/apis/karpenter.sh/v1/nodepools/gpu"
CLAIMS = "/apis/karpenter.sh/v1/nodeclaims"
LONGEST_ATTEMPT = timedelta(seconds=60)
HERE = [{"tags": {"karpenter.sh/discovery": "local"}}]
GPU_CLASS = node_class(
    "gpu",
    role="outrider-local-node",
    subnetSelectorTerms=HERE,
    securityGroupSelectorTerms=HERE,
)
GPU_POOL = node_pool(
    "gpu",
    [
        wish("karpenter.sh/capacity-type", "In", "spot", "on-demand"),
        wish("node.kubernetes.io/instance-type", "In", "g6.xlarge", "g5.xlarge", "g6.2xlarge"),
    ],
    node_class="gpu",
    disruption={
        "consolidationPolicy": "WhenEmpty",
        "consolidateAfter": "0s",
        "budgets": [{"nodes": "100%"}],
    },
)


def container() -> Obj:
    """Return a container that wants a GPU."""
    resources = {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    return {"name": "main", "image": "registry.example/app:1", "resources": resources}


def service(name: str) -> Obj:
    """Return a Deployment of one GPU pod."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container()]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


@pytest.fixture(scope="module")
def gpus(town: Town) -> Iterator[Town]:
    """Give the town with a pool of GPU nodes."""
    town.admin.apply(GPU_CLASS)
    town.admin.apply(GPU_POOL)
    yield town
    clear(town)


def clear(town: Town) -> None:
    """Take the services and the GPU nodes away: the next story begins without a node.

    Dependents first, and wait: a ReplicaSet that lives a moment longer would make a pod anew.
    """
    deployments = town.admin.in_group("apps/v1", "deployments")
    town.admin.send("DELETE", deployments, {"propagationPolicy": "Foreground"})
    for deployment in town.admin.must("GET", deployments)["items"]:
        town.admin.until_gone(deployments, deployment["metadata"]["name"])
    for pod in town.admin.must("GET", town.admin.pods, labelSelector="app")["items"]:
        town.admin.until_gone(town.admin.pods, pod["metadata"]["name"])
    ours = "karpenter.sh/nodepool=gpu"
    for claim in town.admin.must("GET", CLAIMS, labelSelector=ours)["items"]:
        town.admin.must("DELETE", f"{CLAIMS}/{claim['metadata']['name']}")
        town.tick("lifecycle")
        town.admin.until_gone(CLAIMS, claim["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Home:
    """Where a service's pod runs. Names of Nodes are addresses, and come again."""

    pod: str
    node: str
    uid: str
    claim: str
    instance: str


def home_of(town: Town, app: str, but: Home | None = None) -> Home:
    """Wait for a running pod of *app*, another than the one of *but*, and say where it is."""

    def serves(pod: Obj) -> bool:
        is_other = but is None or pod["metadata"]["name"] != but.pod
        is_leaving = "deletionTimestamp" in pod["metadata"]
        return is_other and pod["status"]["phase"] == "Running" and not is_leaving

    pod = town.admin.until(town.admin.pods, serves, seconds=90, labelSelector=f"app={app}")
    node = town.admin.must("GET", f"/api/v1/nodes/{pod['spec']['nodeName']}")
    meta = node["metadata"]
    claim = next(one["name"] for one in meta["ownerReferences"] if one["kind"] == "NodeClaim")
    instance = node["spec"]["providerID"].rpartition("/")[2]
    return Home(pod["metadata"]["name"], meta["name"], meta["uid"], claim, instance)


def initialized(town: Town, home: Home) -> None:
    """Wait until a Node is Initialized: before that nothing is voluntary."""

    def says_so(one: Obj) -> bool:
        return bool(one["metadata"]["labels"].get("karpenter.sh/initialized") == "true")

    town.admin.until("/api/v1/nodes", says_so, fieldSelector=f"metadata.name={home.node}")


def gone(town: Town, home: Home) -> None:
    """Wait until a Node and its NodeClaim are gone."""
    town.admin.until_gone("/api/v1/nodes", home.node, home.uid)
    town.admin.until_gone(CLAIMS, home.claim)


def test_a_pod_that_fits_nowhere_gets_a_node(gpus: Town, figures: Figure) -> None:
    """The scheduler refuses, the API server calls the webhook, a node joins, the pod is bound."""
    since = gpus.mark()
    gpus.admin.must("POST", gpus.admin.in_group("apps/v1", "deployments"), service("first"))
    home = home_of(gpus, "first")
    kinds = [entry["kind"] for entry in gpus.cloud.timeline.entries(since)]
    story = ["podPending", "hint", "plan", "createFleet", "nodeJoined", "nodeReady", "podBound"]
    assert sorted(story, key=kinds.index) == story
    claim = gpus.admin.must("GET", f"{CLAIMS}/{home.claim}")
    assert claim["status"]["providerID"].endswith(home.instance)
    assert claim["metadata"]["finalizers"] == ["karpenter.sh/termination"]
    # The scheduler says it again when its reasons change: the first time counts.
    pending, *_ = gpus.seen("podPending", since)
    fleet, *_ = gpus.seen("createFleet", since)
    assert len(gpus.seen("nodeJoined", since)) == 1
    figures("pod pending to CreateFleet", f"{fleet['at'] - pending['at']:.1f} s")
    initialized(gpus, home)


def test_a_hint_names_the_cluster_and_nothing_else(gpus: Town) -> None:
    """Whatever the API server told the webhook, what goes on is that somebody should look."""
    hints = gpus.seen("hint")
    assert hints
    for hint in hints:
        assert {key: hint[key] for key in hint.keys() - {"at", "kind"}} == {
            "version": 1,
            "cluster": "local",
        }


@pytest.fixture
def budgets(gpus: Town) -> Iterator[str]:
    """Give the path of the namespace's budgets, and leave none behind."""
    path = gpus.admin.in_group("policy/v1", "poddisruptionbudgets")
    yield path
    gpus.admin.must("DELETE", path)


def test_an_interruption_respects_the_budget_and_is_survived(gpus: Town, budgets: str) -> None:
    """Replacement first; no eviction while the real budget allows none; then the pod moves."""
    old = home_of(gpus, "first")
    spec = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "first"}}}
    gpus.admin.must("POST", budgets, {"metadata": {"name": "first"}, "spec": spec})
    gpus.admin.until(budgets, lambda one: one.get("status", {}).get("currentHealthy") == 1)
    since = gpus.mark()
    rounds = asked(gpus, "drain", "poddisruptionbudgets")
    gpus.cloud.reclaim.interrupt(old.instance)
    gpus.until(
        "rounds of the drain",
        lambda: asked(gpus, "drain", "poddisruptionbudgets") > rounds + 2,
    )
    refused = evict(gpus, old.pod)
    assert (refused.status, refused.body["reason"]) == (429, "TooManyRequests")
    gpus.until("the replacement, for all the budget", lambda: gpus.seen("createFleet", since))
    assert not evictions(gpus, 201)
    relaxed = {"spec": {"maxUnavailable": 1}}
    gpus.admin.must("PATCH", f"{budgets}/first", relaxed, MERGE)
    new = home_of(gpus, "first", but=old)
    gpus.until("the eviction", lambda: evictions(gpus, 201))
    gone(gpus, old)
    assert gpus.seen("terminate", since, instance=old.instance)
    assert gpus.seen("nodeJoined", since, id=new.instance)


def asked(town: Town, group: str, resource: str) -> int:
    """Return how often the function of *group* has asked for a *resource*."""
    return sum(one.group == group and one.resource.startswith(resource) for one in town.deeds())


def evict(town: Town, name: str) -> Reply:
    """Ask for an eviction as anybody might, without meaning it."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    dry = {**body, "deleteOptions": {"dryRun": ["All"]}}
    return town.admin.send("POST", f"{town.admin.pods}/{name}/eviction", dry)


def evictions(town: Town, code: int) -> list[str]:
    """Return the pods of the first service whose eviction got the answer *code*."""
    return [
        one.name
        for one in town.deeds()
        if (one.verb, one.resource, one.code) == ("create", "pods/eviction", code)
        and one.name.startswith("first-")
    ]


def test_a_claim_that_somebody_deletes_is_drained_first(gpus: Town) -> None:
    """The finalizer holds NodeClaim and Node until the pod has moved and the machine is gone."""
    old = home_of(gpus, "first")
    since = gpus.mark()
    gpus.admin.must("DELETE", f"{CLAIMS}/{old.claim}")
    assert gpus.admin.must("GET", f"{CLAIMS}/{old.claim}")["metadata"]["deletionTimestamp"]
    gpus.tick("lifecycle")
    gone(gpus, old)
    assert gpus.seen("terminate", since, instance=old.instance)
    assert home_of(gpus, "first", but=old).instance != old.instance


def test_do_not_disrupt_is_heard_until_it_is_lifted(gpus: Town) -> None:
    """A drifted node stays while its pod forbids it, and is replaced when it no longer does."""
    old = home_of(gpus, "first")
    initialized(gpus, old)
    path = f"{gpus.admin.pods}/{old.pod}"
    mark = {"metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "true"}}}
    gpus.admin.must("PATCH", path, mark, MERGE)
    drift = {"spec": {"template": {"metadata": {"labels": {"generation": "two"}}}}}
    gpus.admin.must("PATCH", POOL, drift, MERGE)
    since = gpus.mark()
    passes = asked(gpus, "disrupt", "volumeattachments")
    gpus.tick("disrupt")
    gpus.until("a pass of disrupt", lambda: asked(gpus, "disrupt", "volumeattachments") > passes)
    assert not gpus.seen("createFleet", since)
    lifted = {"metadata": {"annotations": {"karpenter.sh/do-not-disrupt": None}}}
    gpus.admin.must("PATCH", path, lifted, MERGE)
    gpus.tick("disrupt")
    new = home_of(gpus, "first", but=old)
    node = gpus.admin.must("GET", f"/api/v1/nodes/{new.node}")
    assert node["metadata"]["labels"]["generation"] == "two"
    gone(gpus, old)


def test_an_empty_node_goes(gpus: Town) -> None:
    """What nobody needs is given back."""
    home = home_of(gpus, "first")
    initialized(gpus, home)
    gpus.admin.must("DELETE", f"{gpus.admin.in_group('apps/v1', 'deployments')}/first")
    gpus.admin.until_gone(gpus.admin.pods, home.pod)
    gpus.tick("disrupt")
    gone(gpus, home)


def test_a_user_s_manifest_is_still_the_user_s(gpus: Town) -> None:
    """After all of that, the same manifest applies without force: outrider took no field."""
    template = {**GPU_POOL["spec"]["template"], "metadata": {"labels": {"generation": "two"}}}
    manifest = {**GPU_POOL, "spec": {**GPU_POOL["spec"], "template": template}}
    gpus.admin.apply(manifest, force="true")
    passes = asked(gpus, "catalog", "ec2nodeclasses")
    gpus.tick("catalog")
    gpus.until("a catalog pass", lambda: asked(gpus, "catalog", "ec2nodeclasses") > passes)
    gpus.admin.apply(manifest, force="false")
    gpus.admin.apply(GPU_CLASS, force="false")


def test_every_function_may_do_what_it_does(gpus: Town, figures: Figure) -> None:
    """Nothing was forbidden to anybody, and nothing ended as a dead letter."""
    deeds = list(gpus.deeds())
    forbidden = [one for one in deeds if one.code == 403]
    assert [one for one in forbidden if not gpus.plane.was_away(one.at)] == []
    assert {"provision", "interrupt", "drain", "disrupt", "lifecycle"} <= {d.group for d in deeds}
    assert [one for one in gpus.dead_letters() if not was_a_tick_in_an_outage(gpus, one)] == []
    figures("requests of the functions, none forbidden", str(len(deeds)))
    figures("grants to write that no story used", in_words(unused(deeds)))


def was_a_tick_in_an_outage(town: Town, letter: Obj) -> bool:
    """Return whether a *letter* is a minute's tick that met no API server: the next one did."""
    is_tick = letter.get("requestPayload", letter).get("source") == "outrider.ticks"
    failed = letter.get("timestamp")  # of its last attempt, which may have begun before
    return bool(is_tick and failed and town.plane.was_away(failed, before=LONGEST_ATTEMPT))


@pytest.mark.parametrize("function", rbac.FUNCTIONS)
def test_no_function_may_do_more(installed: Administrator, function: str) -> None:
    """A role is not more than its manifest: no Secrets, no shell, no roles, no other's powers."""
    for verb, group, resource, subresource in BEYOND:
        if (function, resource, subresource) == ("drain", "pods", "eviction"):
            continue
        answer = may(installed, function, verb, group, resource, subresource)
        assert not answer, f"{function} may {verb} {resource}/{subresource}"


BEYOND = (
    ("get", "", "secrets", ""),
    ("list", "", "configmaps", ""),
    ("create", "", "pods", ""),
    ("create", "", "pods", "exec"),
    ("create", "", "pods", "binding"),
    ("create", "", "pods", "eviction"),
    ("create", "", "nodes", ""),
    ("create", "", "serviceaccounts", "token"),
    ("patch", "apps", "deployments", ""),
    ("patch", "policy", "poddisruptionbudgets", ""),
    ("delete", "karpenter.sh", "nodepools", ""),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", ""),
    ("patch", "admissionregistration.k8s.io", "validatingwebhookconfigurations", ""),
)


def may(
    admin: Administrator, function: str, verb: str, group: str, resource: str, subresource: str
) -> bool:
    """Return what the API server says to somebody of a *function*'s group."""
    attributes = {
        "verb": verb,
        "group": group,
        "resource": resource,
        "subresource": subresource,
        "namespace": admin.namespace,
    }
    groups = [f"{OURS}{function}", "system:authenticated"]
    answer = admin.must(
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        {"spec": {"user": "somebody", "groups": groups, "resourceAttributes": attributes}},
    )
    return bool(answer["status"]["allowed"])
