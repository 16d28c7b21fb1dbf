"""The sans-I/O core: one TCP/IP stack as a state machine. Its driver supplies the time, the frames and the wake-ups.

Parses events and addresses, and raises error codes as exceptions. It imports neither asyncio nor a clock, and keeps no
frame: they wait in the module's own buffers. A driver's loop is

    core.tcp_send(handle, data, now)    # taken, and sent at once (core.sent_at_once) or by the next poll
    core.poll(now)                      # written data leaves, received frames are taken in, timers run
    for kind, handle, value, payload in core.events(): ...
    core.more or core.soon              # poll again before waiting
    core.deadline                       # else at this time at the latest

Times are seconds of any monotonic clock; the module counts in microseconds. Handles are what the module hands out.

The reasons are in docs/explanation/boundary.md.
"""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from math import inf
from typing import Any, Final

from tcpip_wasm.addresses import Address
from tcpip_wasm.engine import abi
from tcpip_wasm.engine.autoconfiguration_calls import AutoconfigurationCalls
from tcpip_wasm.engine.bridge_calls import BridgeCalls
from tcpip_wasm.engine.calls import Calls
from tcpip_wasm.engine.error_codes import error_for
from tcpip_wasm.engine.instance import Instance
from tcpip_wasm.engine.ping_calls import PingCalls
from tcpip_wasm.engine.port import Trap
from tcpip_wasm.engine.records import FrameBuffers
from tcpip_wasm.engine.route_calls import RouteCalls
from tcpip_wasm.engine.udp_calls import UdpCalls
from tcpip_wasm.errors import NetworkError, StackClosedError, StackError

Event = tuple[int, int, int, Any]
"""Kind, handle, value, payload: see the events of the ABI. A payload is bytes, that of DATA a view."""

_unpack_event: Final = abi.EVENT_HEADER.unpack_from
_unpack_endpoint: Final = abi.ENDPOINT.unpack_from
_INFORMATION: Final = tuple(name.upper() for name in abi.Information._fields)

# The bits of MORE, where they lie in the word that also holds EVENT_LENGTH.
_MORE_NOW: Final = abi.MORE_NOW << 32
_MORE_SOON: Final = abi.MORE_SOON << 32
_MORE_MEMORY: Final = abi.MORE_MEMORY << 32


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a stack counts; frames and drops of an interface are counted by the interface.

    Attributes:
        tcp_segments_in, tcp_segments_out: TCP segments, retransmissions among them.
        tcp_retransmissions: segments sent again.
        checksum_errors, malformed, protocol_drops: packets dropped, by cause.
        memory_errors: packets dropped because the heap was full.
        heap_used: bytes allocated inside the module.
        connections: TCP connections, those that only finish among them.
        time_wait: those of them in TIME-WAIT.
        handles: interfaces, listeners, connections and sockets that the program still holds.
        udp_in, udp_out: UDP datagrams that arrived and that were sent, whole ones.
        udp_no_port: datagrams that arrived for a port without a socket, and were answered by ICMP.
        udp_drops: datagrams dropped because their length or checksum is wrong.
        fragments_in, fragments_out: fragments of IP packets.
        fragment_drops: fragments dropped because they overlap, contradict others, or are too many.
        icmp_in, icmp_out: ICMP and ICMPv6 messages, neighbour discovery among the latter.
        icmp_unmatched: errors and echo replies that belong to none of this stack's packets: late ones, and forged ones.
        forwarded: packets that were passed on between interfaces, see `NetworkStack.forwarding`.
        forward_drops: packets that were to be passed on and were not.
        inconsistencies: connections reset and packets dropped because a check of the stack's own state failed. Any
            number but 0 is a fault of this package, to be reported.
        syn_cookies: SYNs that were answered with a cookie, because too many connections are half-open.
        backlog_drops: SYNs and acknowledgements that were dropped because a listener's backlog is full.
        icmp_limited: ICMP errors that were not sent, because too many were.
        memory: bytes of linear memory.
    """

    tcp_segments_in: int
    tcp_segments_out: int
    tcp_retransmissions: int
    checksum_errors: int
    malformed: int
    protocol_drops: int
    memory_errors: int
    heap_used: int
    connections: int
    time_wait: int
    handles: int
    udp_in: int
    udp_out: int
    udp_no_port: int
    udp_drops: int
    fragments_in: int
    fragments_out: int
    fragment_drops: int
    icmp_in: int
    icmp_out: int
    icmp_unmatched: int
    forwarded: int
    forward_drops: int
    inconsistencies: int
    syn_cookies: int
    backlog_drops: int
    icmp_limited: int
    memory: int


def seed_bytes(seed: bytes | int | None) -> bytes:
    """Return 16 bytes of seed: the operating system's if None, else a digest of what is given.

    Raises:
        TypeError: the seed is neither bytes nor int.
    """
    if seed is None:
        return os.urandom(16)
    if isinstance(seed, int):
        seed = b"%d" % seed
    if not isinstance(seed, (bytes, bytearray)):
        raise TypeError(f"seed must be bytes, int or None, not {type(seed).__name__}")
    return hashlib.sha256(seed).digest()[:16]


def decode_endpoint(record: bytes, at: int = 0) -> tuple[Address, int, int]:
    """Return (address, port, handle of the interface a link-local address belongs to, or 0)."""
    family, port, scope, packed = _unpack_endpoint(record, at)
    if family == abi.FAMILY_IPV4:
        return IPv4Address(packed[:4]), port, 0
    return IPv6Address(packed), port, scope


class Core:
    """A virtual TCP/IP stack.

    Args:
        now: the time, in seconds.
        seed: 16 bytes from which every random choice derives; see `seed_bytes`.
        memory_limit: bytes that the module's memory may grow to.
        instance: an instance of the module; None makes one.

    Raises:
        ModuleMismatchError: there is no module, or it does not fit this package.

    Attributes:
        more: after `poll`: there is more to do at once.
        soon: after `poll`: acknowledgements are to be sent. A poll a little later, when the application has read what
            came and perhaps written, sends them together with that.
        deadline: after `poll`: the time at which `poll` is due again, in seconds; infinity if nothing is due.
        calls: calls of the ABI by name, and the clock by which they see the state of now.
        sent_at_once: after `tcp_send` and `tcp_received`: the handle of the interface by which something left at once,
            or 0. If it did, nothing else waits to be sent, and `soon` is False; the frames are to be taken from the
            interface's buffers, and `poll` is due within a tick of TCP, 25 ms.
        send_full: after `tcp_send`: nothing more would be taken now.
        udp: the calls of UDP sockets.
        ping: the calls of ping sessions.
        bridges, routes: the calls that concern bridges and routing.
        autoconfiguration: the calls by which interfaces find their own addresses.
    """

    def __init__(
        self, *, now: float, seed: bytes, memory_limit: int | None = None, instance: Instance | None = None
    ) -> None:
        self._instance = instance = instance or Instance(memory_limit=memory_limit)
        exports = instance.calls
        control = exports["start"](now, *abi.SEED.unpack(seed))
        instance.refresh()
        words = instance.words[control // 4 : control // 4 + abi.CONTROL_WORDS]
        self._state = control // 8  # EVENT_LENGTH and MORE
        self._sent = control // 4 + abi.CONTROL_SENT_AT_ONCE
        self._full = control // 4 + abi.CONTROL_SEND_FULL
        self._event_buffer = words[abi.CONTROL_EVENT_BUFFER]
        self._staging = control // 4 + abi.CONTROL_STAGING
        self._statistics = words[abi.CONTROL_STATISTICS] // 4
        self._poll = exports["poll"]
        self._send = exports["tcp_send"]
        self.calls: Calls = Calls(instance, control, self._die)
        self._call = self.calls.call
        self._put_scratch = self.calls.put_scratch
        self._mac_seed = hashlib.sha256(b"mac" + seed)
        self._event_length = 0
        self.udp: UdpCalls = UdpCalls(self.calls)
        self.ping: PingCalls = PingCalls(self.calls)
        self.bridges: BridgeCalls = BridgeCalls(self.calls)
        self.routes: RouteCalls = RouteCalls(self.calls)
        self.autoconfiguration: AutoconfigurationCalls = AutoconfigurationCalls(self.calls)
        self.more: bool = False
        self.soon: bool = False
        self.sent_at_once: int = 0
        self.send_full: bool = False
        self.deadline: float = inf

    # --- The loop ---------------------------------------------------------------------------------------------

    def poll(self, now: float) -> None:
        """Do what is due: send what was written, take in what arrived, run timers.

        Args:
            now: the time, in seconds. A clock that steps back stands still instead.

        Raises:
            StackError: the stack is closed, or its module trapped now or before.
        """
        instance = self._instance
        try:
            self.deadline = self._poll(now)
        except Trap as error:
            raise self._die(error) from error
        state = instance.longs[self._state]
        self._event_length = state & 0xFFFFFFFF
        if state >> 32:
            self.more = state & _MORE_NOW != 0
            self.soon = state & _MORE_SOON != 0
            if state & _MORE_MEMORY:
                instance.refresh()
        else:
            self.more = self.soon = False

    def events(self) -> list[Event]:
        """Return the events of the latest `poll`, in order. The payload of DATA is a view, valid until the next one."""
        start, end = self._event_buffer, self._event_length
        memory = self._instance.memory[start : start + end]
        unpack, header = _unpack_event, abi.EVENT_HEADER_SIZE
        at = 0
        events = []
        while at < end:
            size, kind, handle, value = unpack(memory, at)
            start = at + header
            at += size
            payload: Any
            if kind == abi.EVENT_DATA:
                payload = memory[start : start + value]
            elif start < at:
                payload = bytes(memory[start:at])
            else:
                payload = b""
            events.append((kind, handle, value, payload))
        return events

    def close(self) -> None:
        """Release the instance. Later calls raise `StackClosedError`. Idempotent."""
        self._instance.close(StackClosedError(errno.ECONNABORTED, "the stack was closed"))
        self._poll = self._send = self._refuse

    def _die(self, cause: BaseException) -> StackError:
        self._poll = self._send = self._refuse
        return self._instance.die(cause)

    def _refuse(self, *_: float) -> int:
        assert self._instance.death is not None
        raise self._instance.death

    def statistics(self) -> Statistics:
        """Return what the stack has counted so far."""
        self._call("statistics")
        return self._figures()

    def counted(self) -> Statistics:
        """Return what the stack had counted at its latest poll or call. This runs no timer: nothing changes."""
        self._call("statistics", current=False)
        return self._figures()

    def _figures(self) -> Statistics:
        at = self._statistics
        figures = tuple(self._instance.words[at : at + abi.STATISTIC_WORDS])
        return Statistics(*figures, memory=len(self._instance.memory))  # type: ignore[misc]

    # --- Interfaces -------------------------------------------------------------------------------------------

    def add_interface(self, kind: int, mtu: int, mac: bytes = b"", *, ipv6: bool = True) -> FrameBuffers:
        """Add an interface and return its buffers.

        Args:
            kind: one of the ABI's ``KIND_`` constants.
            mtu: bytes of the largest IP packet, 68 to 65,535.
            mac: six bytes, for a tap.
            ipv6: whether a tap or a bridge has a link-local address at once, if its MTU suffices; without one it sends
                nothing of IPv6 by itself.

        Raises:
            OSError: ``ENOBUFS`` without memory, ``ENOSPC`` where there are too many.
        """
        self._put_scratch(abi.MAC_ADDRESS.pack(mac))
        handle = self._call(
            "interface_add", kind, mtu, ipv6, detail=f"an interface more (a stack has {abi.MAX_INTERFACES} at most)"
        )
        block = self._call("interface_block", handle)
        self._instance.refresh()
        return FrameBuffers(self._instance, handle, block // 4)

    def remove_interface(self, handle: int) -> None:
        """Remove an interface. Its buffers must not be used again."""
        self._call("interface_remove", handle)

    def add_address(self, handle: int, address: Address, prefix: int) -> None:
        """Give an interface an address. An IPv4 address replaces the one before; there is room for seven IPv6 addresses
        beside the link-local one."""
        self._put_scratch(abi.IP_ADDRESS.pack(address.packed))
        detail = f"address {address}" + (" (an interface has seven of IPv6 at most)" if address.version == 6 else "")
        self._call("interface_address", handle, address.version, prefix, detail=detail)

    def random_mac(self) -> bytes:
        """Return a locally administered unicast MAC that derives from the seed; each call gives another."""
        self._mac_seed.update(b".")
        digest = self._mac_seed.digest()
        return bytes([digest[0] & 0xFC | 0x02]) + digest[1:6]

    def set_checksums(self, handle: int, enabled: bool) -> None:
        """Switch on or off whether the interface generates and verifies checksums."""
        self._call("interface_checksums", handle, enabled)

    # --- TCP --------------------------------------------------------------------------------------------------

    def tcp_connect(
        self,
        remote: Address,
        port: int,
        *,
        local: Address | None = None,
        local_port: int = 0,
        scope: int = 0,
        ecn: bool = False,
    ) -> int:
        """Begin to connect, and return the connection's handle. CONNECTED or CLOSED follows as an event.

        Args:
            remote: address of the peer.
            port: its port.
            local: own address, or None for the one the route suggests.
            local_port: own port, or 0 for an unpredictable one (RFC 6056).
            scope: handle of the interface that a link-local address belongs to.
            ecn: whether to ask the peer for explicit congestion notification (RFC 3168).

        Raises:
            OSError: ``ENETUNREACH``, ``EADDRNOTAVAIL`` where `local` is no own address or all ports lead to the
                peer, ``EADDRINUSE`` or ``ENOBUFS``.
        """
        self._put_scratch(abi.CONNECT_ADDRESSES.pack(remote.packed, local.packed if local is not None else b""))
        family = remote.version | (abi.CONNECT_ECN if ecn else 0)
        try:
            return self._call(
                "tcp_connect", family, port, local_port, scope, detail=lambda: f"connect to {remote}:{port}"
            )
        except NetworkError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            why = [] if local is None or local.is_unspecified else [f"{local} is no own address"]
            if local_port == 0:
                why.append("all own ports from 1024 on are connected to it")
            raise NetworkError(error.errno, f"{error.strerror}: {' or '.join(why)}") from None

    def tcp_listen(self, local: Address | None, port: int, backlog: int, *, scope: int = 0, share: int = 0) -> int:
        """Listen, and return the listener's handle. Each connection is an ACCEPTED event.

        Args:
            local: own address; None listens on all, IPv4 and IPv6.
            port: own port, or 0 for a free one; see `tcp_local_port`.
            backlog: connections that may wait, 1 to 4096.
            scope: handle of the interface that a link-local address belongs to.
            share: bits of the ABI's ``SHARE_``: which other listeners may have the same address and port.
        """
        family = local.version if local is not None else abi.FAMILY_ANY
        self._put_scratch(abi.IP_ADDRESS.pack(local.packed if local is not None else b""))
        detail = f"listen on {local if local is not None else '*'}:{port}"
        return self._call("tcp_listen", family | share, port, backlog, scope, detail=detail)

    def tcp_local_port(self, handle: int) -> int:
        """Return the port of a listener."""
        return self._call("tcp_local_port", handle)

    def tcp_send(self, handle: int, data: bytes | memoryview, now: float = 0.0) -> int:
        """Hand over data, and return how many bytes were taken. Where `send_full`, a WRITABLE event follows.

        Args:
            handle: a connection.
            data: bytes, one-dimensional.
            now: the time, in seconds, if it may leave at once, see `sent_at_once`; 0 leaves all to `poll`.

        Raises:
            OSError: ``ENOTCONN`` where the connection is not open for writing.
        """
        size = len(data)
        if size > abi.STAGING_CAPACITY:
            return self._send_large(handle, memoryview(data), now)
        instance = self._instance
        if instance.death is not None:
            raise instance.death
        start = instance.words[self._staging]
        try:
            instance.memory[start : start + size] = data
        except ValueError:  # the area lies beyond the end that memory had when the view was taken
            instance.refresh()
            instance.memory[start : start + size] = data
        try:
            taken = self._send(now, handle, size)
        except Trap as error:
            raise self._die(error) from error
        if taken < 0:
            raise error_for(taken, "send")
        words = instance.words
        self.sent_at_once = words[self._sent]
        if self.sent_at_once:
            self.soon = False
        self.send_full = words[self._full] != 0
        return taken

    def _send_large(self, handle: int, data: memoryview, now: float) -> int:
        sent = 0
        while sent < len(data):
            piece = data[sent : sent + abi.STAGING_CAPACITY]
            sent += self.tcp_send(handle, piece, now)
            if self.send_full:
                break
        return sent

    def tcp_received(self, handle: int, length: int, now: float = 0.0) -> None:
        """Report that the application has read so many bytes, which opens the receive window again.

        Args:
            handle: a connection.
            length: how many, of those that events have handed out.
            now: the time, in seconds, if the window update may leave at once, see `sent_at_once`; 0 leaves it to
                `poll`.
        """
        self._call("tcp_received", now, handle, length, current=False)
        self.sent_at_once = self._instance.words[self._sent]
        if self.sent_at_once:
            self.soon = False

    def tcp_shutdown(self, handle: int) -> None:
        """Send FIN after what was written; receiving goes on."""
        self._call("tcp_shutdown", handle)

    def tcp_close(self, handle: int) -> None:
        """Release a connection or listener. What a connection has taken is still delivered."""
        self._call("tcp_close", handle)

    def tcp_abort(self, handle: int) -> None:
        """Reset a connection and release it."""
        self._call("tcp_abort", handle)

    def tcp_undelivered(self) -> int:
        """Return how many connections were closed or half-closed and have a FIN that is not acknowledged yet.

        Connections of this stack with itself are not counted.
        """
        return self._call("tcp_undelivered")

    def tcp_end(self) -> int:
        """End all connections with other hosts, before the stack ends: reset those with data or a FIN that is not
        acknowledged, and send FIN on the others.

        Returns:
            How many there were. Frames that this sends are in the interfaces' buffers at once.
        """
        return self._call("tcp_end")

    def tcp_accepted(self, handle: int) -> bool:
        """Report that the application has taken a connection, which frees its place in the backlog."""
        return self._call("tcp_accepted", handle) != 0

    def tcp_option(self, handle: int, option: int, value: int) -> None:
        """Set one of the ABI's ``OPTION_`` values; times are in milliseconds."""
        self._call("tcp_option", handle, option, value)

    def tcp_information(self, handle: int) -> dict[str, int]:
        """Return what a connection is like now, by the names of the fields of the ABI's `Information`, in capitals.

        Raises:
            OSError: ``ENOTCONN`` where the connection has ended.
        """
        self._call("tcp_information", handle)
        values = abi.INFORMATION.unpack(self.calls.scratch(abi.INFORMATION_SIZE))
        return dict(zip(_INFORMATION, values, strict=True))
