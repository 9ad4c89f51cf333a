"""The version that everything we leave for a later invocation carries, and which ones are read.

Ledger rows, messages, errands and inputs of state machines outlive the code that wrote them: a
drain goes on through a deploy, and an alias that is rolled back leaves yesterday's code with
today's rows. So state is only ever added to within a version, whoever reads it has a default for
what may be missing, and nobody minds what he does not know. A change that the release before would
misread is a new version: the new release reads both and still writes the old one; only the release
after it writes the new. Hence code of version N reads everything up to N + 1, and one step back is
always safe. Two steps are not, and are refused rather than guessed at.
"""

from __future__ import annotations

from outrider.errors import StateTooNew

VERSION = 1


def check(version: object, what: str) -> None:
    """Raise StateTooNew where *what* is of a *version* that this code could misread.

    State from before there were versions has none, and is read.
    """
    text = str(version)
    number = int(text) if text.isdecimal() else 0
    if number > VERSION + 1:
        raise StateTooNew(
            f"{what} is of version {number}, this release reads up to {VERSION + 1}:"
            " roll forward again"
        )
