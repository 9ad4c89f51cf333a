"""What an examination finds: how bad it is, what is wrong, and what to do about it.

A finding without a remedy is a complaint, so `fix` is never empty. Refuses to know how anything
is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad: a note is how things are, a warning will hurt, an error hurts already."""

    NOTE = 0
    WARNING = 1
    ERROR = 2

    @property
    def word(self) -> str:
        """Return the word for people and programs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: *about* names it, *code* is for programs."""

    severity: Severity
    code: str
    about: str
    problem: str
    fix: str


def ranked(findings: list[Finding]) -> tuple[Finding, ...]:
    """Return *findings*, the worst first, each once."""
    return tuple(sorted(set(findings), key=lambda one: (-one.severity, one.code, one.about)))


def worst(findings: tuple[Finding, ...]) -> Severity:
    """Return the severity of the worst of *findings*; a note where there is none."""
    return max((one.severity for one in findings), default=Severity.NOTE)
