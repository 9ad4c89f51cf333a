"""Where the embedded account is, and which."""

from __future__ import annotations

ACCOUNT = "123456789012"
REGION = "us-east-1"
