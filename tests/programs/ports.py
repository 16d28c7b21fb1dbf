"""The ports of the servers, on every host."""

from __future__ import annotations

from typing import Final

FTP: Final = 21
SSH: Final = 22
SMTP: Final = 25
HTTP: Final = 8000
WS: Final = 8001
HTTPS: Final = 8443
WSS: Final = 8444
OPENSSH: Final = 2222
"""Debian's sshd, in a namespace."""

NOBODY: Final = 81
"""A port without a listener."""
