"""MIME multipart user data: split what a user wrote, join it with what we add.

cloud-init reads the parts in order; nodeadm merges NodeConfig parts, later ones winning, so ours
come last. The boundary is fixed: equal input gives equal bytes, and so an equal launch template.
Parsing and writing are the email package's; only the frame is ours. Refuses to know what a part
says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser

from outrider.errors import InvalidManifest

BOUNDARY = "//OUTRIDER//"
NODE_CONFIG = "application/node.eks.aws"
SHELL_SCRIPT = 'text/x-shellscript; charset="us-ascii"'


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its content type, with parameters, and its text."""

    content_type: str
    body: str


def is_multipart(text: str) -> bool:
    """Return whether *text* is a MIME document."""
    head = text.lstrip()[:200].lower()
    return head.startswith(("mime-version:", "content-type: multipart/"))


def split(text: str) -> tuple[Part, ...]:
    """Return the parts of the MIME document *text*; raise InvalidManifest where it is broken."""
    document = Parser().parsestr(text.lstrip())
    if not document.is_multipart() or document.defects:
        raise InvalidManifest("is not a well-formed MIME multipart document", path="spec.userData")
    return tuple(_part(message) for message in document.walk() if not message.is_multipart())


def join(parts: Iterable[Part]) -> str:
    """Return the MIME document of *parts*, byte for byte the same for the same parts."""
    lines = ["MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{BOUNDARY}"', ""]
    for part in parts:
        lines += [f"--{BOUNDARY}", f"Content-Type: {part.content_type}", "", part.body.rstrip("\n")]
        lines.append("")
    lines.append(f"--{BOUNDARY}--")
    return "\n".join(lines) + "\n"


def _part(message: Message) -> Part:
    payload = message.get_payload(decode=True)
    body = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else str(payload)
    return Part(message.get("Content-Type", "text/plain"), body)
