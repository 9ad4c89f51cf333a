"""The doctor: facts of an account and a cluster in, findings out, each with its fix.

`diagnose` is the only door. Each judge looks at one part of the facts and says nothing about what
nobody could find out; that itself is a finding. Refuses to look anything up (`flows.doctor`).
"""

from __future__ import annotations

from outrider.core.doctor import account, capacity, clocks, cluster
from outrider.core.doctor.facts import Facts
from outrider.core.doctor.finding import Finding, Severity, ranked, worst

__all__ = ["Facts", "Finding", "Severity", "diagnose", "worst"]


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """Return what is wrong by *facts*, the worst first."""
    return ranked(
        [
            *account.judge(facts),
            *capacity.judge(facts),
            *cluster.judge(facts),
            *clocks.judge(facts),
            *_unanswered(facts),
        ]
    )


def _unanswered(facts: Facts) -> list[Finding]:
    return [
        Finding(
            Severity.WARNING,
            "Unchecked",
            one.question,
            f"could not be found out: {one.problem}",
            "give your credentials leave to read it (docs/operations.md lists the calls)"
            if one.denied
            else "run `outrider doctor` again; if it stays, ask the API by hand",
        )
        for one in facts.unanswered
    ]
