"""Link types of captures: which header a frame begins with (draft-ietf-opsawg-pcaplinktype)."""

from __future__ import annotations

from typing import Final

__all__ = ["ETHERNET", "IPV4", "IPV6", "LINUX_SLL", "LINUX_SLL2", "LOOP", "NULL", "RAW"]

NULL: Final = 0
"""BSD's loopback: four bytes of address family in the byte order of the capturing machine."""
ETHERNET: Final = 1
RAW: Final = 101
"""An IPv4 or IPv6 packet, according to its version field."""
LOOP: Final = 108
"""OpenBSD's loopback: four bytes of address family in network order."""
LINUX_SLL: Final = 113
"""Linux's cooked capture, as ``tcpdump -i any`` writes it, version 1."""
IPV4: Final = 228
IPV6: Final = 229
LINUX_SLL2: Final = 276
