"""User data of a custom AMI: the user's text, verbatim.

The AMI is the user's, and so is the way its nodes join; with Karpenter's `amiFamily: Custom`
nothing is added either. What a custom node must do is documented, not guessed: register with our
labels and the taint `karpenter.sh/unregistered:NoExecute`.
"""

from __future__ import annotations

from outrider.core.launch.bootstrap import NodeBootstrap


def render(node: NodeBootstrap, custom: str | None = None) -> str:
    """Return *custom* as it is; *node* has no say."""
    del node
    return custom or ""
