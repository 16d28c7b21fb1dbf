"""Link types of captures: what the first byte of a frame belongs to (draft-ietf-opsawg-pcaplinktype).

Owns the numbers, and nothing of files or packets.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ETHERNET", "IPV4", "IPV6", "LINUX_SLL", "LINUX_SLL2", "LOOP", "NULL", "RAW"]

NULL: Final = 0
"""BSD's loopback: four bytes of address family in the byte order of who captured."""
ETHERNET: Final = 1
RAW: Final = 101
"""An IPv4 or IPv6 packet, as its version says."""
LOOP: Final = 108
"""OpenBSD's loopback: four bytes of address family in network order."""
LINUX_SLL: Final = 113
"""What ``tcpdump -i any`` writes, in its first version."""
IPV4: Final = 228
IPV6: Final = 229
LINUX_SLL2: Final = 276
