"""`outrider doctor`: is this account and this cluster fit, and if not, what to do about it.

Reads only. Every finding has its fix; the exit status is the worst one's: 0 for none (or notes),
3 for warnings, 4 for errors; 1 and 2 are the command's own, as everywhere. What your credentials
may not read is a finding too. Refuses to mend anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import orjson

from outrider.cli.account import Place, located

if TYPE_CHECKING:
    from outrider.core.doctor import Finding
    from outrider.flows.doctor import Patient

STATUS = {"note": 0, "warning": 3, "error": 4}
COLOURS = {"note": "cyan", "warning": "yellow", "error": "red"}


@click.command(epilog="Example: outrider doctor --cluster prod -o json")
@located
def command(place: Place, output: str) -> int:
    """Check account and cluster without changing anything; each finding comes with its fix."""
    from outrider.core.doctor import worst
    from outrider.flows import doctor

    name, findings = doctor.examine(patient(place))
    if output == "json":
        click.echo(orjson.dumps(shown(name, findings), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(name, findings)
    return STATUS[worst(findings).word]


def patient(place: Place) -> Patient:
    """Return who is examined, by what *place* says: nothing has to be well for that."""
    from outrider.adapters.aws.examination import Examination
    from outrider.adapters.aws.ledger import Ledger
    from outrider.adapters.clock import clock
    from outrider.adapters.kube.examination import Examination as InCluster
    from outrider.cli.account import connection, session
    from outrider.flows.doctor import Patient

    reached = session(place)
    return Patient(
        account=Examination(reached),
        cluster=lambda name: InCluster(connection(place, reached, name)),
        catalog=lambda stack: Ledger(
            reached, stack.outputs.get("LedgerTable", ""), clock.now
        ).catalog(),
        now=clock.now,
        stack=place.stack or "",
        name=place.cluster or "",
    )


def shown(name: str, findings: tuple[Finding, ...]) -> dict[str, Any]:
    """Return *findings* about the cluster *name* as the JSON document."""
    counts = {word: sum(one.severity.word == word for one in findings) for word in STATUS}
    return {
        "cluster": name,
        "findings": [
            {
                "severity": one.severity.word,
                "code": one.code,
                "about": one.about,
                "problem": one.problem,
                "fix": one.fix,
            }
            for one in findings
        ],
        "summary": {f"{word}s": counts[word] for word in ("error", "warning", "note")},
    }


def _print(name: str, findings: tuple[Finding, ...]) -> None:
    for one in findings:
        word = click.style(one.severity.word.upper(), fg=COLOURS[one.severity.word], bold=True)
        click.echo(f"{word} {one.code}: {one.about}\n  {one.problem}\n  fix: {one.fix}")
    if not findings:
        click.echo(f"cluster {name}: nothing found")
        return
    counts = {word: sum(one.severity.word == word for one in findings) for word in STATUS}
    said = ", ".join(
        f"{counts[word]} {word}{'s' * (counts[word] != 1)}" for word in ("error", "warning", "note")
    )
    click.echo(f"\ncluster {name}: {said}")
