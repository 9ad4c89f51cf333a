"""Whether everybody has the same time: deadlines of two minutes bear no skew of one.

AWS' time is the reference where it is known, else that of whoever asks. A node renews its Lease
every ten seconds with its own clock, so one that is renewed in the future has a fast clock. A slow
one looks like a node that is late, which other checks see. Signatures fail at five minutes (SigV4).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from outrider.core.doctor.facts import Facts
from outrider.core.doctor.finding import Finding, Severity

BEARABLE = timedelta(seconds=30)
LISTED = 5


def judge(facts: Facts) -> Iterator[Finding]:
    """Yield the clocks that are wrong."""
    if facts.aws_time is not None and abs(facts.aws_time - facts.now) > BEARABLE:
        skew = (facts.now - facts.aws_time).total_seconds()
        yield Finding(
            Severity.WARNING,
            "ClockSkew",
            "this machine",
            f"its clock is {skew:+.0f} s off AWS' time",
            "let it follow a time server (chrony, systemd-timesyncd)",
        )
    reference = facts.aws_time or facts.now
    ahead = sorted(
        node for node, at in (facts.heartbeats or {}).items() if at - reference > BEARABLE
    )
    if ahead:
        more = f" and {len(ahead) - LISTED} more" if len(ahead) > LISTED else ""
        yield Finding(
            Severity.WARNING,
            "ClockSkew",
            f"nodes {', '.join(ahead[:LISTED])}{more}",
            "they renew their Leases in the future: their clocks are fast",
            "let chrony follow the Amazon Time Sync Service (169.254.169.123) on these nodes",
        )
