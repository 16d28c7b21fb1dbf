"""Ping sessions of a core: `PingCalls`, which is `Core.ping`.

What comes back are ECHO_REPLY and ECHO_ERROR events. Their payload begins with an endpoint whose address is that of the
sender, and whose port is the sequence number; `ECHO_DATA` is where the bytes of a reply begin.
"""

from __future__ import annotations

from typing import Final

from tcpip_wasm.addresses import Address
from tcpip_wasm.engine import abi
from tcpip_wasm.engine.calls import Calls
from tcpip_wasm.engine.error_codes import error_for

ECHO_DATA: Final = abi.ECHO_SIZE
"""Where the bytes of an ECHO_REPLY event's payload begin."""


class PingCalls:
    """The ICMP calls of a core.

    Args:
        calls: those of the core.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def open(self, remote: Address, scope: int = 0) -> int:
        """Open a session with one host, and return its handle.

        Args:
            remote: the host; no group.
            scope: handle of the interface that a link-local address belongs to.

        Raises:
            OSError: ``ENOSPC`` where there are too many sessions, ``EINVAL`` for a group, ``ENOBUFS``.
        """
        self._calls.put_scratch(abi.IP_ADDRESS.pack(remote.packed))
        return self._calls.call("ping_open", remote.version, scope, detail=f"ping {remote}")

    def identifier(self, handle: int) -> int:
        """Return the session's identifier: unpredictable, and no other session's."""
        return self._calls.call("ping_identifier", handle)

    def send(self, handle: int, sequence: int, data: bytes, hop_limit: int) -> bool:
        """Send an echo request; its frames leave with the next `Core.poll`.

        Args:
            handle: a session.
            sequence: 0 to 65,535.
            data: at most 65,507 bytes, to an IPv6 address 65,487.
            hop_limit: TTL or hop limit, 1 to 255.

        Returns:
            False where the interface has no room for it: nothing was sent, and WRITABLE follows when it has.

        Raises:
            OSError: ``EMSGSIZE``, ``ENETUNREACH``, ``EACCES`` for a broadcast address, ``ENOBUFS``.
        """
        calls = self._calls
        if len(data) > abi.MAX_DATAGRAM:
            raise error_for(abi.ERROR_TOO_LONG, f"a ping of {len(data)} bytes")
        calls.put_staging(data)
        return calls.call("ping_send", handle, sequence, len(data), hop_limit, accept=abi.ERROR_NO_ROOM) == 0

    def close(self, handle: int) -> None:
        """Close a session; what still comes back is ignored."""
        self._calls.call("ping_close", handle)
