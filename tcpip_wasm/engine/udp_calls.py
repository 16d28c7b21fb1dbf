"""UDP sockets of a core: `UdpCalls`, which is `Core.udp`.

Owns the one call that is made for each datagram. What arrives are DATAGRAM events: their payload is the ABI's
`DATAGRAM`, and the bytes; `DATAGRAM_DATA` is where they begin.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from tcpip_wasm.addresses import Address
from tcpip_wasm.engine import abi
from tcpip_wasm.engine.calls import Calls
from tcpip_wasm.engine.error_codes import error_for
from tcpip_wasm.engine.port import Trap

_pack_endpoint: Final = abi.ENDPOINT.pack

DATAGRAM_DATA: Final = abi.DATAGRAM_SIZE
"""Where the bytes of a DATAGRAM event's payload begin."""


def encode_endpoint(address: Address, port: int, scope: int = 0) -> bytes:
    """Return an endpoint as the ABI has it; the other way is `decode_endpoint`.

    Args:
        address: IPv4 or IPv6.
        port: 0 to 65,535.
        scope: handle of the interface that a link-local address or a group belongs to, or 0.
    """
    return _pack_endpoint(address.version, port, scope, address.packed)


def _to(record: bytes) -> str:
    family, port, _, packed = abi.ENDPOINT.unpack(record)
    return f" to {IPv4Address(packed[:4]) if family == abi.FAMILY_IPV4 else IPv6Address(packed)}:{port}"


class UdpCalls:
    """The UDP calls of a core.

    Args:
        calls: those of the core.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._send = calls.instance.calls["udp_send"]

    def open(
        self, local: Address | None, port: int, *, family: int = abi.FAMILY_ANY, scope: int = 0, share: int = 0
    ) -> int:
        """Open a socket, and return its handle.

        Args:
            local: own address or a group; None is all addresses of the family.
            port: own port, or 0 for an unpredictable free one (RFC 6056).
            family: one of the ABI's ``FAMILY_`` values where no address is given; ANY serves IPv4 and IPv6.
            scope: handle of the interface that a link-local address belongs to.
            share: bits of the ABI's ``SHARE_``: which other sockets may have the same address and port.

        Raises:
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``, ``ENOSPC`` where there are too many, ``ENOBUFS``.
        """
        if local is not None:
            family = local.version
        self._calls.put_scratch(abi.IP_ADDRESS.pack(local.packed if local is not None else b""))
        where = local if local is not None else "*"
        return self._calls.call("udp_open", family | share, port, scope, detail=f"UDP on {where}:{port}")

    def connect(self, handle: int, remote: bytes) -> None:
        """Fix the remote end: only its datagrams arrive, and errors that ICMP reports.

        Args:
            handle: a socket.
            remote: an endpoint, see `encode_endpoint`.

        Raises:
            OSError: ``ENETUNREACH``, ``EADDRNOTAVAIL``, ``EACCES`` for a broadcast address.
        """
        self._calls.put_scratch(remote)
        self._calls.call("udp_connect", handle, detail=f"connect UDP{_to(remote)}")

    def send(self, handle: int, data: bytes | memoryview, remote: bytes | None) -> bool:
        """Send a datagram; its frames leave with the next `Core.poll`.

        Args:
            handle: a socket.
            data: at most 65,507 bytes, to an IPv6 address 65,487.
            remote: the destination's endpoint, or None for that of a connected socket.

        Returns:
            False where the interface has no room for it: nothing was sent, and WRITABLE follows when it has.

        Raises:
            OSError: ``EMSGSIZE``, ``ENETUNREACH``, ``EACCES`` for a broadcast by a socket that may not, ``ENOTCONN``
                without a destination, ``EADDRNOTAVAIL`` where the own address is gone, ``ENOBUFS``.
        """
        size = len(data)
        if size > abi.MAX_DATAGRAM:
            raise error_for(abi.ERROR_TOO_LONG, f"a datagram of {size} bytes")
        calls = self._calls
        calls.put_staging(data, remote)
        if calls.clock() >= calls.stale:
            calls.advance()
        try:
            result = self._send(handle, size, remote is not None)
        except Trap as error:
            raise calls.trapped(error) from error
        if result == 0:
            return True
        if result == abi.ERROR_NO_ROOM:
            return False
        raise error_for(result, "send a datagram" + (_to(remote) if remote is not None else ""))

    def local(self, handle: int) -> bytes:
        """Return the local endpoint; its address is ``::`` where it is all of them."""
        self._calls.call("udp_local", handle)
        return self._calls.scratch(abi.ENDPOINT_SIZE)

    def set_option(self, handle: int, option: int, value: int) -> None:
        """Set one of the ABI's ``OPTION_`` values of UDP.

        Raises:
            OSError: ``EINVAL`` for a value that the option does not take.
        """
        self._calls.call("udp_option", handle, option, value, detail=f"UDP option {option}")

    def join(self, handle: int, group: Address, interface: int = 0) -> None:
        """Join a multicast group.

        Args:
            handle: a socket.
            group: its address.
            interface: handle of an interface, or 0 for the one that datagrams to the group would take.

        Raises:
            OSError: ``EADDRINUSE`` for a member, ``ENETUNREACH`` without an interface, ``ENOSPC`` above 64 groups,
                ``EINVAL`` for no group or an interface without multicast.
        """
        self._group(handle, True, group, interface)

    def leave(self, handle: int, group: Address, interface: int = 0) -> None:
        """Leave a multicast group.

        Raises:
            OSError: ``EADDRNOTAVAIL`` where it is no member.
        """
        self._group(handle, False, group, interface)

    def _group(self, handle: int, join: bool, group: Address, interface: int) -> None:
        self._calls.put_scratch(encode_endpoint(group, 0, interface if group.version == 6 else 0))
        self._calls.call("udp_group", handle, join, interface, detail=f"group {group}")

    def close(self, handle: int) -> None:
        """Close a socket: its groups are left, and what it sent still leaves."""
        self._calls.call("udp_close", handle)
