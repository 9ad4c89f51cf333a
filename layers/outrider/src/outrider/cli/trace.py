"""`outrider trace`: the chain of decisions behind a pod or a node, from its hint to its eviction.

Reads objects, Kubernetes Events, the ledger, EC2's tags and the functions' logs; what cannot be
asked is said on standard error and the rest is told. Exit status 0; 1 where nothing remembers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import orjson

from outrider.cli.account import Place, located, world

if TYPE_CHECKING:
    from datetime import datetime

    from outrider.adapters.aws.session import Session
    from outrider.adapters.kube.client import Client
    from outrider.core.trace import Chain, Link


@dataclass(frozen=True, slots=True)
class _Witnesses:
    """Kubernetes Events over *client*, the logs of *cluster*'s functions over *session*."""

    client: Client
    session: Session
    cluster: str

    def events(self, kind: str, namespace: str, name: str) -> tuple[Mapping[str, Any], ...]:
        """Return the Kubernetes Events about an object."""
        from outrider.adapters.kube import events

        return events.about(self.client, kind, namespace, name)

    def lines(self, decisions: Sequence[str], since: datetime) -> tuple[Link, ...]:
        """Return what the functions logged about *decisions*."""
        from outrider.adapters.aws import logs

        return logs.lines(self.session, self.cluster, decisions, since)


@click.command(epilog="Example: outrider trace default/trainer-0 --cluster prod")
@click.argument("subject", metavar="POD|NODE")
@located
def command(place: Place, subject: str, output: str) -> int:
    """Print what happened to a pod (namespace/name), a node, a NodeClaim or an instance, and by
    which decision."""
    from outrider.cli.account import connection, session
    from outrider.flows import trace

    account, reached = world(place), session(place)
    cluster = account.settings.cluster
    witnesses = _Witnesses(connection(place, reached, cluster), reached, cluster)
    found = trace.trace(account, witnesses, subject)
    if output == "json":
        click.echo(orjson.dumps(shown(found), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(found)
    for source, why in sorted(found.silent.items()):
        click.echo(f"outrider: {source} could not be asked: {why}", err=True)
    return 0


def shown(found: Chain) -> dict[str, Any]:
    """Return *found* as the JSON document."""
    return {
        "subject": found.subject,
        "decisions": list(found.decisions),
        "links": [
            {
                "at": one.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "about": one.about,
                "what": one.what,
                "decision": one.decision,
                "source": one.source,
            }
            for one in found.links
        ],
        "silent": dict(found.silent),
    }


def _print(found: Chain) -> None:
    for one in found.links:
        mark = f" [{one.decision}]" if one.decision else ""
        at = one.at.strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"{at}  {one.about}: {one.what}{mark} ({one.source})")
    click.echo(f"{len(found.links)} links, decisions: {', '.join(found.decisions) or 'none'}")
