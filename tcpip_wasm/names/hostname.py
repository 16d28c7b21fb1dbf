"""What callers write where a host is wanted: a name, made comparable, or a mistake.

A name is ASCII in lower case without the dot at its end; other scripts are encoded as IDNA 2003, by the codec that
asyncio's own functions use.
"""

from __future__ import annotations

import re
from typing import Final

from tcpip_wasm.errors import MalformedHostError

MAX_NAME: Final = 253
"""Characters of the longest name without its last dot: 255 bytes on the wire (RFC 1035, section 2.3.4)."""

_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def host_name(text: str) -> str:
    """Return a name in the form in which names are compared.

    Raises:
        MalformedHostError: it is no name: empty, too long, of characters that hosts do not have, or a malformed
            address; a name of which the last label is a number is one (RFC 1123, section 2.1).
    """
    try:
        name = text.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise MalformedHostError(f"host: {text!r} is neither a name nor an IP address: {error}") from None
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_NAME or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise MalformedHostError(f"host: {text!r} is neither a name nor an IP address")
    return name


def is_local(name: str) -> bool:
    """Whether a name in its comparable form means this stack by itself (RFC 6761, section 6.3)."""
    return name == "localhost" or name.endswith(".localhost")
