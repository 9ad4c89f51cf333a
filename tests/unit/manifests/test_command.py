"""`outrider manifests` prints YAML for kubectl, and refuses what the API server would."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from outrider.cli.manifests import command

URL = "https://abc.execute-api.us-east-1.amazonaws.com/hint/s3cr3t"


def run(*arguments: str) -> Result:
    """Run the verb."""
    return CliRunner().invoke(command, arguments, prog_name="outrider manifests")


def kinds(result: Result) -> set[str]:
    """Return the kinds that were printed."""
    return {document["kind"] for document in yaml.safe_load_all(result.stdout)}


def test_a_part_is_printed_alone() -> None:
    """rbac is roles and bindings, webhook is one configuration."""
    assert kinds(run("rbac", "--cluster", "prod")) == {"ClusterRole", "ClusterRoleBinding"}
    printed = run("webhook", "--cluster", "prod", "--webhook-url", URL)
    assert kinds(printed) == {"ValidatingWebhookConfiguration"}
    assert URL in printed.stdout
    assert printed.stderr == ""


def test_all_is_the_default() -> None:
    """Without a part everything is printed, what others refer to first."""
    printed = run("--cluster", "prod", "--webhook-url", URL)
    assert printed.exit_code == 0
    documents = list(yaml.safe_load_all(printed.stdout))
    order = list(dict.fromkeys(document["kind"] for document in documents))
    assert order == [
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingWebhookConfiguration",
    ]


def test_a_missing_url_is_said() -> None:
    """The webhook is printed all the same; a sentence on standard error says where it points."""
    printed = run("webhook", "--cluster", "prod")
    assert printed.exit_code == 0
    assert ".invalid/" in printed.stdout
    assert "--webhook-url" in printed.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--cluster", "no spaces"),
        ("nonsense", "--cluster", "prod"),
        ("webhook", "--cluster", "prod", "--webhook-url", "http://example.com/hint/x"),
        ("webhook", "--cluster", "prod", "--webhook-url", "https://a:b@example.com/hint/x"),
        ("webhook", "--cluster", "prod", "--webhook-url", "https://example.com/hint?x=1"),
        ("webhook", "--cluster", "prod", "--ca-bundle", "/does/not/exist"),
    ],
)
def test_bad_arguments_are_refused_without_output(arguments: tuple[str, ...]) -> None:
    """Status 2, nothing on standard output, a reason on standard error."""
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert "Error" in refused.stderr


def test_a_ca_bundle_must_be_one(tmp_path: Path) -> None:
    """A file that holds no certificate is refused; one that does is passed on in base64."""
    path = tmp_path / "ca.pem"
    path.write_text("not a certificate")
    assert run("webhook", "--cluster", "prod", "--ca-bundle", str(path)).exit_code == 2
    path.write_text("-----BEGIN CERTIFICATE-----\nQ0E=\n-----END CERTIFICATE-----\n")
    printed = run("webhook", "--cluster", "prod", "--webhook-url", URL, "--ca-bundle", str(path))
    (document,) = yaml.safe_load_all(printed.stdout)
    assert document["webhooks"][0]["clientConfig"]["caBundle"].startswith("LS0tLS1CRUdJTi")


def test_the_local_cloud_may_speak_plain_http() -> None:
    """On loopback there is nobody to overhear."""
    printed = run("webhook", "--cluster", "local", "--webhook-url", "http://127.0.0.1:1/hint/x")
    assert printed.exit_code == 0
