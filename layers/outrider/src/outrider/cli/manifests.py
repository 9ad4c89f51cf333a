"""`outrider manifests`: print what goes into the cluster, as YAML for kubectl.

Prints and never applies: who installs decides what a cluster that has CRDs already keeps of them.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import urlsplit

import click

from outrider import manifests
from outrider.manifests import webhook

CLUSTER_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}")  # what EKS allows
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _cluster(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not CLUSTER_NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not the name of an EKS cluster")
    return value


def _url(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse what the API server would refuse later, and less clearly."""
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise click.BadParameter("a webhook's URL begins with https://")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise click.BadParameter("a webhook's URL has no user, query or fragment")
    return value


def _bundle(_context: click.Context, _option: click.Parameter, value: Path | None) -> str | None:
    if value is None:
        return None
    pem = value.read_bytes()
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise click.BadParameter(f"{value} holds no PEM certificate")
    return base64.b64encode(pem).decode()


@click.command(
    epilog="Example: outrider manifests all --cluster prod --webhook-url https://…/hint/SECRET"
    " | kubectl apply --server-side -f -"
)
@click.argument("part", type=click.Choice(manifests.PARTS), default="all")
@click.option(
    "--cluster", required=True, callback=_cluster, metavar="NAME", help="The EKS cluster."
)
@click.option(
    "--webhook-url",
    envvar="OUTRIDER_WEBHOOK_URL",
    callback=_url,
    metavar="URL",
    help="The stack's output WebhookUrl, a slash and the secret.",
)
@click.option(
    "--ca-bundle",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_bundle,
    help="PEM file of the authority behind the URL, if it is not a public one.",
)
@click.option(
    "--scheduler-user",
    "schedulers",
    multiple=True,
    default=webhook.SCHEDULERS,
    show_default=True,
    metavar="USER",
    help="User name of a scheduler whose refusals count; may be repeated.",
)
def command(
    part: manifests.Part,
    cluster: str,
    webhook_url: str | None,
    ca_bundle: str | None,
    schedulers: tuple[str, ...],
) -> None:
    """Print what goes into the cluster: rbac, crds, webhook, or all of it."""
    if webhook_url is None and part in {"webhook", "all"}:
        click.echo(
            f"outrider: no --webhook-url: the webhook points at {webhook.PLACEHOLDER},"
            " which leads nowhere",
            err=True,
        )
    objects = manifests.render(
        part,
        cluster=cluster,
        webhook_url=webhook_url,
        ca_bundle=ca_bundle,
        schedulers=schedulers,
    )
    click.echo(manifests.as_yaml(objects), nl=False)
