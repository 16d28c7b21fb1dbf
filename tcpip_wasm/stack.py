"""`NetworkStack`, the facade that users meet first: it makes interfaces, connections and listeners.

Owns what public methods promise. The work is done below: `driver` polls the core, `interfaces` carry frames, `sockets`
are the connections, `names` become addresses; `stack_parts` joins these.

This file has over 600 lines, and its class 34 public methods: those of asyncio's loop and streams that programs expect
in one place, and what makes interfaces and routes. 220 of the lines are code; the others are signatures with all their
options, and docstrings, which are the reference of this package. Services never become methods of the stack.

The layers below are listed in docs/explanation/layers.md.
"""

from __future__ import annotations

import asyncio
import errno
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tcpip_wasm.addresses import Host, Network
from tcpip_wasm.arguments import check_int, check_timeout
from tcpip_wasm.driver import Driver
from tcpip_wasm.engine import Core, Statistics, abi, seed_bytes
from tcpip_wasm.errors import StackClosedError, network_error
from tcpip_wasm.interfaces import (
    BridgeInterface,
    Interface,
    InterfaceStatistics,
    LoopbackInterface,
    Route,
    TapInterface,
    TunInterface,
)
from tcpip_wasm.interfaces.bridge import AGEING, check_ageing, check_ports
from tcpip_wasm.interfaces.interface_arguments import (
    InterfaceAddresses,
    check_ipv6,
    parse_addresses,
    parse_mac,
    parse_mtu,
)
from tcpip_wasm.names import HostsTable, Resolver
from tcpip_wasm.names.lookup import AddressInfo
from tcpip_wasm.names.servers import Server
from tcpip_wasm.sockets import (
    PingSession,
    TcpConnection,
    TcpListener,
    TcpServer,
    UdpSocket,
    UdpTransport,
)
from tcpip_wasm.sockets.congestion import congestion_number
from tcpip_wasm.sockets.ping import DEFAULT_TTL, check_ttl
from tcpip_wasm.sockets.tcp.connect import CONNECTION_ATTEMPT_DELAY
from tcpip_wasm.sockets.tcp.connection import StreamEnds
from tcpip_wasm.sockets.tcp.draining import drain as drain_connections
from tcpip_wasm.sockets.tcp.draining import end_connections
from tcpip_wasm.sockets.tcp.open_tcp import check_connect
from tcpip_wasm.sockets.tcp.sendfile import sendfile
from tcpip_wasm.sockets.tcp.stream_reader import PieceReader
from tcpip_wasm.sockets.tls.tls_connection import TlsEnds
from tcpip_wasm.sockets.tls.tls_transport import client_tls, loop_for_streams, server_tls, start_tls
from tcpip_wasm.sockets.udp.open_udp import udp_options
from tcpip_wasm.stack_parts import StackParts

if TYPE_CHECKING:
    from tcpip_wasm.compat import Polyfill, RouteLike

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]
MakeInterface = TypeVar("MakeInterface", bound=Interface)

STREAM_LIMIT = 2**16
"""Bytes: asyncio's own default for `StreamReader`."""

LEAST_MEMORY, MOST_MEMORY = 2**22, 2**30
"""Bytes that a stack's memory may be limited to: the module's own maximum is 1 GiB."""

DRAIN = 1.0
"""Seconds for which the end of ``async with`` waits at most until what the program has closed is delivered."""

RELEASE_INTERVAL = 0.02
"""Seconds for which a stack or an interface with a lease goes on, so that what it sends last can leave."""


@dataclass(frozen=True, slots=True)
class StackStatistics:
    """Figures of a stack: its core's, and those of each interface by name.

    Attributes:
        core: what the module counts.
        interfaces: what each interface counts.
        turns: how often the stack was woken.
    """

    core: Statistics
    interfaces: dict[str, InterfaceStatistics]
    turns: int


class NetworkStack:
    """A virtual TCP/IP stack. `create_stack` makes it; as an asynchronous context manager it closes itself.

    It belongs to the event loop on which it was made, and no method is to be called from another thread: that raises
    `RuntimeError` where asyncio's debug mode is on when the stack is made. Making interfaces waits for nothing, so that
    nothing can be cancelled there. Every method raises `StackError` once the stack is gone.

    Args:
        driver: drives the stack's core.
        seed: bytes from which the resolver's ids and ports derive; None takes them from the operating system.
        name_servers: (address, port) pairs; none means the stack's own loopback, port 53.
        congestion: the ABI's number of the algorithm that controls congestion.
        ecn: whether connects ask for explicit congestion notification.

    Attributes:
        resolver: queries DNS servers for other names.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        seed: bytes | None = None,
        name_servers: Iterable[Server | str] = (),
        congestion: int = 0,
        ecn: bool = False,
    ) -> None:
        self._driver = driver
        self._parts = parts = StackParts(
            driver,
            seed=seed,
            name_servers=name_servers,
            open_stream=lambda server: self.open_connection(*server),
            congestion=congestion,
            ecn=ecn,
        )
        self._interfaces = parts.interfaces
        self._lookup = parts.lookup
        self._routing = parts.routing
        self._tcp = parts.tcp
        self._udp = parts.udp
        self._forwarding = False
        self.resolver: Resolver = parts.resolver

    def __repr__(self) -> str:
        return f"<NetworkStack {'closed' if self._driver.error else self._interfaces}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        driver = getattr(self, "_driver", None)
        if driver is not None and driver.error is None:
            _warn(f"unclosed stack {self!r}", ResourceWarning, source=self)

    async def __aenter__(self) -> NetworkStack:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose(drain=DRAIN)

    async def aclose(self, drain: float = 0.0) -> None:
        """Close the stack: every pending call on it raises `StackClosedError`, transports lose their connection.

        Args:
            drain: seconds of the loop's clock to wait at most until the peers have acknowledged what was accepted for
                them on connections that the program has closed or half-closed. The stack works on meanwhile. The
                end of ``async with`` waits for up to 1 second. Where nothing is to be delivered, or nothing is attached
                to any interface, nothing waits.

        Then what is not delivered is reset, so that the peer notices; connections that the program still holds and that
        have nothing under way send FIN. Leases of DHCP are released, if that can be done at once. Idempotent;
        a call that does not wait ends also the stack of one that does. Cancelled, the stack is closed all the same.

        Raises:
            ValueError, TypeError: `drain` is no number of seconds.
        """
        seconds = check_timeout("drain", drain)
        if seconds is None:
            raise TypeError("drain must be a number of seconds, not None")
        if seconds < 0:
            raise ValueError(f"drain: {drain} is negative")
        driver, closed = self._driver, StackClosedError(errno.ECONNABORTED, "the stack was closed")
        try:
            if seconds > 0:
                await drain_connections(driver, seconds, lambda: any(one.attached for one in self._interfaces))
        finally:
            try:
                if end_connections(driver, closed):
                    for interface in self._interfaces:
                        interface.resume_transmit()
                if driver.error is None and sum(interface._give_back_soon() for interface in self._interfaces):  # noqa: SLF001  for this package alone: interfaces are public
                    await self._leave()
            finally:
                driver.end(closed)
        await asyncio.sleep(0)  # protocols receive `connection_lost` before this returns

    def abort(self, reason: str = "the stack was aborted") -> None:
        """Close the stack at once, as if its power was cut: nothing more is sent. Idempotent.

        Args:
            reason: the text of the `StackClosedError` that pending calls raise.
        """
        self._driver.end(StackClosedError(errno.ECONNABORTED, reason))

    @property
    def hosts(self) -> HostsTable:
        """Names that need no query: looked up before a server is queried. May be assigned as a whole."""
        return self._lookup.hosts

    @hosts.setter
    def hosts(self, hosts: HostsTable) -> None:
        if not isinstance(hosts, HostsTable):
            raise TypeError(f"hosts must be a HostsTable, not {type(hosts).__name__}")
        self._lookup.hosts = hosts

    @property
    def closed(self) -> bool:
        """Whether the stack is closed or has trapped."""
        return self._driver.error is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop the stack lives on."""
        return self._driver.loop

    def polyfill(self, route: RouteLike = None, *, strict: bool = False) -> Polyfill:
        """Return a context manager inside which the loop's network is this stack's, for existing asyncio programs.

        Inside ``with stack.polyfill():`` the loop's `create_connection`, `create_server`, `create_datagram_endpoint`,
        `getaddrinfo`, `getnameinfo`, `sock_connect` and their kin use the stack, in all tasks of the loop; asyncio's
        streams and libraries that stand on the loop follow. What was opened inside goes on after it. Polyfills nest:
        what the inner one's route leaves goes to the outer one, then to the machine's network.

        Args:
            route: which destinations are the stack's: networks and patterns of names, such as
                ``["10.0.0.0/8", "*.internal"]``, or a predicate on a host's text; None is everything. ``"0.0.0.0"``
                stands for a server that names no host.
            strict: whether what does not go through the loop is refused with `MachineNetworkError`, in all threads of
                the process, while the block lasts: the machine's sockets and its resolver, but for what the route
                leaves to the machine, and other programs. Unix sockets are allowed, and so is what is done inside
                `tcpip_wasm.compat.machine_network`. It installs an audit hook (PEP 578), which stays, idle, for the
                life of the process; what opens sockets in C raises no such event. Without `strict` such
                calls of the loop's thread and its executor are warned of, by `tcpip_wasm.compat.MachineNetworkWarning`.

        Raises:
            ValueError, TypeError: a malformed route.
            RuntimeError: on entering, where the stack's loop is not the running one; on leaving, where an inner one is
                still active.
            StackError: on entering, where the stack is gone.
        """
        from tcpip_wasm.compat import polyfill

        return polyfill(self, route, strict=strict)

    def stats(self) -> StackStatistics:
        """Return what the stack and its interfaces have counted so far.

        Raises:
            StackError: the stack is gone.
        """
        self._driver.check()
        interfaces = {interface.name: interface.statistics() for interface in self._interfaces}
        return StackStatistics(self._driver.core.statistics(), interfaces, self._driver.turns)

    # --- Interfaces -----------------------------------------------------------------------------------------------

    @property
    def interfaces(self) -> Sequence[Interface]:
        """The interfaces, in order of their creation."""
        return tuple(self._interfaces)

    def _add(self, kind: str, make: Callable[[str], MakeInterface]) -> MakeInterface:
        self._driver.check()
        interface = self._interfaces.add(kind, make)
        interface._on_name_servers = self._parts.learn_name_servers  # noqa: SLF001  for this package alone: interfaces are public
        return interface

    async def create_loopback_interface(
        self, ip: InterfaceAddresses = "127.0.0.1/8", *, ipv6: bool = True
    ) -> LoopbackInterface:
        """Make the loopback interface. A stack has at most one.

        Args:
            ip, ipv6: see `create_tap_interface`.

        Raises:
            ValueError, TypeError: a malformed address.
            OSError: ``ENOSPC`` where there is one already.
        """
        self._driver.check()
        addresses = parse_addresses(ip)
        check_ipv6(ipv6, addresses)
        loopback = next((one for one in self._interfaces if isinstance(one, LoopbackInterface)), None)
        if loopback is not None:
            raise network_error(errno.ENOSPC, f"a stack has one loopback interface, and {loopback!r} is there already")
        return self._add("lo", lambda name: LoopbackInterface(self._driver, name, addresses, ipv6=ipv6))

    async def create_tun_interface(
        self, ip: InterfaceAddresses = None, *, mtu: int = 1500, checksums: bool = True, ipv6: bool = True
    ) -> TunInterface:
        """Make a point-to-point interface of IP packets.

        Args: as for `create_tap_interface`.
        """
        addresses = parse_addresses(ip)
        check_ipv6(ipv6, addresses)
        mtu = parse_mtu(mtu, addresses)
        interface = self._add("tun", lambda name: TunInterface(self._driver, name, mtu, addresses, ipv6=ipv6))
        interface.checksums = checksums
        return interface

    async def create_tap_interface(
        self,
        mac: str | bytes | None = None,
        ip: InterfaceAddresses = None,
        *,
        mtu: int = 1500,
        checksums: bool = True,
        ipv6: bool = True,
    ) -> TapInterface:
        """Make an Ethernet interface.

        Args:
            mac: its address; None takes a locally administered one from the stack's seed. A group address causes a
                warning, and frames have it without the group bit.
            ip: text such as ``"192.168.1.1/24"``, an `ipaddress` interface object, a list of them, or None. At most
                one of them is IPv4. Without a prefix it is an address alone, /32 or /128: its network has no other
                host, and neighbours are reached by `add_route` only.
            mtu: bytes of the largest IP packet, 68 to 65,535; with an IPv6 address, 1,280 at least (RFC 8200).
            checksums: whether checksums are generated and verified. False must be the same at the far end.
            ipv6: whether it has a link-local address at once, and takes part in IPv6. With False it sends nothing of
                IPv6.

        Raises:
            ValueError: a malformed argument, which the message names.
            TypeError: an argument of the wrong type.
            OSError: ``ENOSPC`` where there are too many interfaces or addresses, ``ENOBUFS`` without memory.
        """
        addresses = parse_addresses(ip)
        check_ipv6(ipv6, addresses)
        mtu = parse_mtu(mtu, addresses)
        packed = parse_mac(mac) if mac is not None else self._driver.core.random_mac()
        interface = self._add("tap", lambda name: TapInterface(self._driver, name, mtu, addresses, packed, ipv6=ipv6))
        interface.checksums = checksums
        return interface

    async def create_bridge_interface(
        self,
        ports: Iterable[TapInterface] = (),
        mac: str | bytes | None = None,
        ip: InterfaceAddresses = None,
        *,
        mtu: int | None = None,
        ageing: int = AGEING,
        checksums: bool = True,
        ipv6: bool = True,
    ) -> BridgeInterface:
        """Join taps of this stack by a bridge, which is an interface of the stack, too.

        There is no spanning tree: the network of bridges and cables must not have loops.

        Args:
            ports: taps without addresses; `BridgeInterface.add_port` and `remove_port` change them later.
            mac: the stack's address on the bridge; None takes a locally administered one from the stack's seed.
            ip: the stack's addresses on the bridge, see `create_tap_interface`.
            mtu: bytes of the largest IP packet that the stack sends by the bridge; None takes the smallest of the
                ports', or 1500 where there are none.
            ageing: seconds after which an address from which no frame came is forgotten.
            checksums: see `create_tap_interface`; frames between ports are passed on as they are.
            ipv6: see `create_tap_interface`.

        Raises:
            ValueError: a malformed argument, a tap of another stack or with addresses.
            TypeError: an argument of the wrong type, a port that is no tap.
            OSError: ``EBUSY`` where a tap is a port already, ``ENODEV`` where it was removed; see also
                `create_tap_interface`.
        """
        taps = check_ports(self._driver, ports)
        addresses, ageing = parse_addresses(ip), check_ageing(ageing)
        check_ipv6(ipv6, addresses)
        mtu = parse_mtu(mtu if mtu is not None else min((tap.mtu for tap in taps), default=1500), addresses)
        packed = parse_mac(mac) if mac is not None else self._driver.core.random_mac()
        bridge = self._add("br", lambda name: BridgeInterface(self._driver, name, mtu, addresses, packed, ipv6=ipv6))
        bridge.checksums = checksums
        bridge.ageing = ageing
        for tap in taps:
            await bridge.add_port(tap)
        return bridge

    async def remove_interface(self, interface: Interface) -> None:
        """Remove an interface; what is attached to it ends. TCP connections over it run into their time-outs.

        Args:
            interface: one of this stack's.

        Raises:
            ValueError: it is no interface of this stack, or not any more.
            TypeError: it is no interface.

        Cancelled, it is removed all the same.
        """
        if not isinstance(interface, Interface):
            raise TypeError(f"interface must be an interface of the stack, not {type(interface).__name__}")
        if interface not in self._interfaces:
            raise ValueError(f"interface: {interface!r} is none of this stack's")
        try:
            if interface._give_back_soon():  # noqa: SLF001  for this package alone: interfaces are public
                await self._leave()
        finally:
            if interface in self._interfaces:  # not removed by another call meanwhile
                try:
                    self._parts.drops.forget(interface)
                finally:
                    self._interfaces.remove(interface)
                    interface.remove()
                    self._routing.forget(interface)

    async def _leave(self) -> None:
        """Wait until what was just sent has left, if the receiver is near: its MAC may have to be resolved first."""
        self._driver.wake()
        await asyncio.sleep(RELEASE_INTERVAL)

    # --- Routing --------------------------------------------------------------------------------------------------

    @property
    def forwarding(self) -> bool:
        """Whether packets that arrive for others are passed on, IPv4 and IPv6: whether this stack is a router.

        Off at first. What a router does not pass on, such as packets from or to link-local, loopback and multicast
        addresses, is dropped and counted (`Statistics.forward_drops`); the sender of what has no route, no hops left
        or not enough room is notified by ICMP, a hundred times a second at most. There are no redirects. IPv6 hosts
        learn their router by `advertise` of a tap or a bridge, others by `add_route` or DHCP.

        Raises:
            StackError: on assignment, where the stack is gone.
        """
        return self._forwarding

    @forwarding.setter
    def forwarding(self, enabled: bool) -> None:
        self._driver.check()
        self._driver.core.routes.set_forwarding(bool(enabled))
        self._forwarding = bool(enabled)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routing table: networks that addresses imply, then routes that were added."""
        return self._routing.routes

    def add_route(
        self,
        network: str | Network,
        *,
        via: Host | None = None,
        interface: Interface | None = None,
        metric: int = 0,
    ) -> Route:
        """Add a route, for what this stack sends and for what it passes on.

        The longest prefix that fits a destination decides, of equal ones that of an interface's address and then the
        lowest metric. The routes of an interface go with it.

        Args:
            network: the destinations, such as ``"10.1.0.0/16"``; ``"0.0.0.0/0"`` and ``"::/0"`` are the defaults.
            via: the gateway, in a network of one of the interfaces; a link-local one needs its interface, or its
                scope as in ``"fe80::1%tap0"``. None where the destinations are on the interface's own link.
            interface: what packets leave by; None takes the one whose network the gateway is in.
            metric: 0 to 2,147,483,647.

        Returns:
            The route, as it stands in `routes`.

        Raises:
            ValueError: malformed, of different families, neither via nor interface, or a gateway that is this stack.
            TypeError: an argument of the wrong type.
            OSError: ``ENETUNREACH`` where the gateway is in no network of an interface, ``EEXIST`` where there is a
                route to this network with this metric, ``ENODEV`` where the interface was removed, ``ENOSPC`` where
                there are 256 routes already.
            StackError: the stack is gone.
        """
        return self._routing.add(network, via, interface, metric)

    def remove_route(
        self,
        network: str | Network,
        *,
        via: Host | None = None,
        interface: Interface | None = None,
        metric: int | None = None,
    ) -> None:
        """Remove the route to a network that was added and fits what is given; of several, that of the lowest metric.

        Args: as for `add_route`; None fits any.

        Raises:
            ValueError, TypeError: a malformed argument.
            OSError: ``ESRCH`` where no route fits.
            StackError: the stack is gone.
        """
        self._routing.remove(network, via, interface, metric)

    # --- TCP, asyncio's way ---------------------------------------------------------------------------------------

    async def create_connection(
        self,
        protocol_factory: Callable[[], ProtocolT],
        host: Host | tuple[Host, ...],
        port: int,
        *,
        ssl: SSLContext | bool | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        local_addr: tuple[Host, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
        congestion_control: str | None = None,
    ) -> tuple[Any, ProtocolT]:
        """Connect, as `asyncio.loop.create_connection` does.

        Args:
            protocol_factory: makes the protocol, once the host's addresses are known.
            host: name or address of the peer, or several addresses of it, to be tried in this order.
            port: its port.
            ssl: a context, or True for the default one: the transport is one of TLS.
            family, flags: which addresses of a name to use, as for `getaddrinfo`.
            proto: 0 or ``socket.IPPROTO_TCP``.
            local_addr: own (host, port); port 0 is an unpredictable one.
            happy_eyeballs_delay: seconds after which a name's next address is tried beside those under way (RFC 8305);
                None tries it when the one before has failed.
            interleave: how many addresses of the first family come before the families alternate; 0 leaves them in
                the order of `getaddrinfo`. None is 1 with a `happy_eyeballs_delay`, else 0.
            all_errors: whether what goes wrong with the addresses is raised as an `ExceptionGroup` of each one's error.
            server_hostname: name in the server's certificate; None is `host`, ``""`` checks none.
            ssl_handshake_timeout: seconds; None is 60.
            ssl_shutdown_timeout: seconds; None is 30.
            congestion_control: ``"cubic"`` or ``"reno"``; None is what `create_stack` was given.

        Returns:
            The transport, a `TcpTransport` or asyncio's of TLS, and the protocol, once `connection_made` was called.

        Raises:
            ConnectionRefusedError, TimeoutError, OSError: see `tcpip_wasm.errors`. Where several addresses failed in
                different ways, an `OSError` that lists all.
            NameResolutionError: the name led to no address.
            ValueError, TypeError: a malformed argument.

        Cancelled, it leaves no connection behind.
        """
        tls = client_tls(ssl, host, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
        self._driver.check()
        check_connect(port, local_addr, family, proto, happy_eyeballs_delay)
        candidates = await self._lookup.candidates(
            host, local_addr, family=family, flags=flags, delay=happy_eyeballs_delay, turns=interleave
        )
        return await self._tcp.connect(
            protocol_factory,
            candidates,
            port,
            tls,
            delay=happy_eyeballs_delay,
            all_errors=all_errors,
            congestion_control=congestion_control,
        )

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Host | Iterable[Host] | None = None,
        port: int = 0,
        *,
        ssl: SSLContext | None = None,
        backlog: int = 100,
        start_serving: bool = True,
        keep_alive: bool | None = None,
        reuse_port: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        congestion_control: str | None = None,
    ) -> TcpServer:
        """Listen, as `asyncio.loop.create_server` does.

        Args:
            protocol_factory: makes a protocol for each connection.
            host: own address or a name of it, several of them, or None or ``""`` for all.
            port: the port, or 0 for a free one.
            ssl: a context, with which every connection uses TLS.
            backlog: connections that may wait, 1 to 4096; more is taken as 4096.
            start_serving: False finds a port and refuses connections until `TcpServer.start_serving`.
            keep_alive: True lets every connection probe a peer that is silent for long; on every version of Python.
            reuse_port: whether other servers with this option may have the same address and port; each connection
                goes to one of them by a hash of its addresses and ports.
            ssl_handshake_timeout: seconds; None is 60.
            ssl_shutdown_timeout: seconds; None is 30.
            congestion_control: ``"cubic"`` or ``"reno"``; None is what `create_stack` was given.

        Raises:
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``.
            NameResolutionError: a name led to no address.
            ValueError, TypeError: a malformed argument.

        Cancelled while a name is looked up, it leaves nothing behind.
        """
        tls = server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        addresses = await self._lookup.listening(host)
        share = abi.SHARE_PORT if reuse_port else 0
        server = self._tcp.serve(
            protocol_factory, addresses, port, backlog, tls=tls, share=share, congestion_control=congestion_control
        )
        server.keep_alive = bool(keep_alive)
        if not start_serving:
            server.stop_serving()
        return server

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Turn an open connection into one of TLS, as `asyncio.loop.start_tls` does; `uvloop` needs this one.

        Args:
            transport: of one of this stack's connections; TLS over TLS is possible.
            protocol: receives plain text from now on.
            sslcontext: certificates and rules.
            server_side: whether this side is the server of the handshake.
            server_hostname: name in the server's certificate; None checks none.
            ssl_handshake_timeout: seconds; None is 60.
            ssl_shutdown_timeout: seconds; None is 30.

        Returns:
            The transport to use from now on.

        Raises:
            TypeError: a transport or a context of another kind.
            OSError: `ssl.SSLError` and others, as the handshake failed.

        Failed or cancelled, the connection is closed.
        """
        return await start_tls(
            self._driver.loop,
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def sendfile(
        self,
        transport: asyncio.BaseTransport,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send a file over an open connection, as `asyncio.loop.sendfile` does; `uvloop` needs this one.

        Args:
            transport: of one of this stack's connections, also one of TLS.
            file: a regular file, open for reading bytes. It is read in threads of the loop's executor.
            offset: bytes of the file to leave out.
            count: bytes to send at most; None is all that follow.
            fallback: whether the file may be read and written; there is no system call for it.

        Returns:
            How many bytes were sent. The file's position is behind them, also where this raises.

        Raises:
            RuntimeError: the transport is closing, or not one of TCP.
            asyncio.SendfileNotAvailableError: without `fallback`.
            ConnectionError: the connection ended meanwhile.
            ValueError, TypeError: a malformed argument, a file in text mode.

        The peer is not read from meanwhile. Cancelled, what was read is sent, and the connection goes on.
        """
        return await sendfile(self._driver.loop, transport, file, offset, count, fallback=fallback)

    async def open_connection(
        self,
        host: Host | tuple[Host, ...],
        port: int,
        *,
        limit: int = STREAM_LIMIT,
        ssl: SSLContext | bool | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        local_addr: tuple[Host, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = CONNECTION_ATTEMPT_DELAY,
        interleave: int | None = None,
        all_errors: bool = False,
        congestion_control: str | None = None,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, as `asyncio.open_connection` does.

        Args:
            host: name or address of the peer, or several addresses of it, to be tried in this order.
            port: its port.
            limit: bytes of the longest line that `readline` returns, and a quarter of what the reader holds before it
                stops reading from the connection.
            ssl: a context, or True for the default one: the streams carry the plain text of TLS.
            family, flags: which addresses of a name to use, as for `getaddrinfo`.
            proto: 0 or ``socket.IPPROTO_TCP``.
            local_addr: own (host, port); port 0 is an unpredictable one.
            server_hostname: name in the server's certificate; None is `host`, ``""`` checks none.
            ssl_handshake_timeout: seconds; None is 60.
            ssl_shutdown_timeout: seconds; None is 30.
            happy_eyeballs_delay: seconds after which a name's next address is tried beside those under way (RFC 8305);
                None tries it when the one before has failed.
            interleave: how many addresses of the first family come before the families alternate; 0 leaves them in
                the order of `getaddrinfo`. None is 1 with a `happy_eyeballs_delay`, else 0.
            all_errors: whether the errors of the addresses are raised as an `ExceptionGroup` of all of them.
            congestion_control: ``"cubic"`` or ``"reno"``; None is what `create_stack` was given.

        Returns:
            The reader and the writer.

        Raises:
            ConnectionRefusedError, TimeoutError, OSError: see `create_connection`.
            NameResolutionError: the name led to no address.
            ValueError, TypeError: a malformed argument.

        Cancelled, it leaves no connection behind.
        """
        # Longer than 60 lines because each option is written out, documented and handed on: no **kwargs, so that type
        # checkers and editors know them.
        loop = loop_for_streams(self._driver.loop)
        reader = PieceReader(limit, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self.create_connection(
            lambda: protocol,
            host,
            port,
            ssl=ssl,
            family=family,
            proto=proto,
            flags=flags,
            local_addr=local_addr,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            happy_eyeballs_delay=happy_eyeballs_delay,
            interleave=interleave,
            all_errors=all_errors,
            congestion_control=congestion_control,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def start_server(
        self,
        client_connected: ClientConnected,
        host: Host | Iterable[Host] | None = None,
        port: int = 0,
        *,
        limit: int = STREAM_LIMIT,
        ssl: SSLContext | None = None,
        backlog: int = 100,
        start_serving: bool = True,
        keep_alive: bool | None = None,
        reuse_port: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        congestion_control: str | None = None,
    ) -> TcpServer:
        """Listen, as `asyncio.start_server` does.

        Args:
            client_connected: called with the reader and the writer of each connection; a coroutine becomes a task.
            host: own address or a name of it, several of them, or None or ``""`` for all.
            port: the port, or 0 for a free one.
            limit: bytes, see `open_connection`.
            ssl: a context, with which every connection uses TLS.
            backlog: connections that may wait, 1 to 4096; more is taken as 4096.
            start_serving: False finds a port and refuses connections until `TcpServer.start_serving`.
            keep_alive: True lets every connection probe a peer that is silent for long; on every version of Python.
            reuse_port: whether other servers with this option may have the same address and port; see `create_server`.
            ssl_handshake_timeout: seconds; None is 60.
            ssl_shutdown_timeout: seconds; None is 30.
            congestion_control: ``"cubic"`` or ``"reno"``; None is what `create_stack` was given.

        Raises:
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``.
            NameResolutionError: a name led to no address.
            ValueError, TypeError: a malformed argument.

        Cancelled while a name is looked up, it leaves nothing behind.
        """
        loop = loop_for_streams(self._driver.loop)

        def factory() -> asyncio.StreamReaderProtocol:
            reader = PieceReader(limit, loop)
            return asyncio.StreamReaderProtocol(reader, cast(Any, client_connected), loop=loop)

        return await self.create_server(
            factory,
            host,
            port,
            ssl=ssl,
            backlog=backlog,
            start_serving=start_serving,
            keep_alive=keep_alive,
            reuse_port=reuse_port,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            congestion_control=congestion_control,
        )

    # --- TCP, the streams' way ------------------------------------------------------------------------------------

    async def connect_tcp(
        self,
        host: Host,
        port: int,
        *,
        timeout: float | None = None,
        ssl: SSLContext | bool | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        congestion_control: str | None = None,
    ) -> TcpConnection:
        """Connect. The addresses of a name are tried a quarter of a second apart (RFC 8305).

        Args:
            host: name or address of the peer.
            port: its port.
            timeout: seconds to wait at most, for its address and for the handshake, too; None leaves it to TCP, which
                gives up after two minutes without any answer, and after some ten seconds where the peer is reported as
                unreachable or no neighbour has the address.
            ssl, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout: see `create_connection`; `TcpConnection`
                has what is different over TLS.
            congestion_control: ``"cubic"`` or ``"reno"``; None is what `create_stack` was given.

        Raises:
            ConnectionRefusedError, TimeoutError, OSError: see `tcpip_wasm.errors`.
            NameResolutionError: the name led to no address.
            ssl.SSLError: the handshake failed; `ssl.SSLCertVerificationError` where the certificate was to blame.
            ConnectionResetError, ConnectionAbortedError: the peer ended within the handshake, or did not answer.
            ValueError, TypeError: a malformed argument.

        Cancelled, it leaves no connection behind.
        """
        timeout = check_timeout("timeout", timeout)
        try:
            async with asyncio.timeout(timeout):
                _, ends = await self.create_connection(
                    TlsEnds if ssl else StreamEnds,
                    host,
                    port,
                    ssl=ssl,
                    server_hostname=server_hostname,
                    ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout,
                    happy_eyeballs_delay=CONNECTION_ATTEMPT_DELAY,
                    congestion_control=congestion_control,
                )
        except TimeoutError as error:
            if error.errno is None:
                numeric = self._interfaces.parse(host) or (None, 0)
                timed_out = network_error(errno.ETIMEDOUT, f"connect to {host}:{port}")
                raise self._routing.explained(timed_out, *numeric) from None
            raise
        return TcpConnection(ends)

    async def listen_tcp(
        self,
        port: int,
        host: Host | None = None,
        *,
        backlog: int = 128,
        ssl: SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        congestion_control: str | None = None,
    ) -> TcpListener:
        """Listen.

        Args:
            port: the port, or 0 for a free one; see the listener's `port`.
            host: own address or a name of it, or None for all.
            backlog: connections that may wait to be accepted, 1 to 4096; more is taken as 4096.
            ssl: a context, with which every connection uses TLS: those whose handshake is done are accepted.
            ssl_handshake_timeout: seconds that a client may take; None is 60.
            ssl_shutdown_timeout: seconds; None is 30.
            congestion_control: ``"cubic"`` or ``"reno"``; None is what `create_stack` was given.

        Raises:
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``.
            NameResolutionError: the name led to no address.
            ValueError, TypeError: a malformed argument.

        Cancelled while a name is looked up, it leaves nothing behind.
        """
        tls = server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        self._driver.check()
        return self._tcp.listen(await self._lookup.listening(host), port, backlog, tls, congestion_control)

    # --- Names ----------------------------------------------------------------------------------------------------

    @property
    def name_servers(self) -> list[Server]:
        """The DNS servers that are queried, in this order, as (address, port) pairs; to be assigned to as a whole.

        Those that interfaces learned from DHCP and routers come after those assigned. Where there is none, it is the
        stack's own loopback, port 53.
        """
        return self.resolver.servers

    @name_servers.setter
    def name_servers(self, servers: Iterable[Server | str]) -> None:
        self.resolver.servers = servers

    async def getaddrinfo(
        self,
        host: Host | bytes | None,
        port: int | str | bytes | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002  # as asyncio calls it
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """Return the addresses of a host and port, as `asyncio.loop.getaddrinfo` does.

        Args:
            host: name or address, or None for this stack: any of its addresses with ``AI_PASSIVE``, else its loopback.
            port: a number, the name of a well-known service, or None.
            family: ``AF_INET``, ``AF_INET6``, or 0 for both.
            type: ``SOCK_STREAM``, ``SOCK_DGRAM``, or 0 for both; there are no raw sockets.
            proto: of that type, or 0.
            flags: ``AI_PASSIVE``, ``AI_CANONNAME``, ``AI_NUMERICHOST`` and ``AI_NUMERICSERV``; others are ignored.

        Returns:
            (family, type, proto, canonical name, socket address) tuples, those to try first at the front.

        Raises:
            NameResolutionError: it is a `socket.gaierror`, with its ``EAI_`` numbers.
            ValueError, TypeError: a malformed argument.

        Cancelled, it leaves no question behind.
        """
        self._driver.check()
        return await self._lookup.getaddrinfo(host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int = 0) -> tuple[str, str]:
        """Return the name and the service of a socket address, as `asyncio.loop.getnameinfo` does.

        Args:
            sockaddr: a numeric host, a port, and for IPv6 perhaps more.
            flags: ``NI_NUMERICHOST``, ``NI_NUMERICSERV`` and ``NI_NAMEREQD``; others are ignored.

        Raises:
            NameResolutionError: there is no name, and ``NI_NAMEREQD`` needs one; without it the address is returned.
            ValueError, TypeError: a malformed argument.

        Cancelled, it leaves no question behind.
        """
        self._driver.check()
        return await self._lookup.getnameinfo(sockaddr, flags)

    # --- UDP ------------------------------------------------------------------------------------------------------

    async def open_udp(
        self,
        host: Host | None = None,
        port: int | None = None,
        *,
        remote: tuple[Host, int] | None = None,
        allow_broadcast: bool = False,
        ttl: int = 64,
        multicast_ttl: int = 1,
        multicast_interface: Interface | None = None,
        reuse_port: bool | None = None,
    ) -> UdpSocket:
        """Open a UDP socket.

        Args:
            host: own address or a name of it, a group, or None for all, IPv4 and IPv6.
            port: own port; None or 0 takes an unpredictable free one (RFC 6056).
            remote: (name or address, port) of the one peer to receive from; then `receive` also raises what ICMP
                reports of it.
            allow_broadcast: whether datagrams to broadcast addresses may be sent. 255.255.255.255 leaves by every
                interface that can broadcast, or by `multicast_interface`.
            ttl: TTL or hop limit of datagrams, 1 to 255.
            multicast_ttl: the same for groups, 0 to 255.
            multicast_interface: by which datagrams to groups leave; None takes the first that can.
            reuse_port: whether other sockets with this option may have the same address and port; each flow goes to
                one of them by a hash, groups and broadcasts go to all.

        Raises:
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``, ``ENETUNREACH``, ``ENOSPC``, ``ENOBUFS``.
            NameResolutionError: a name led to no address.
            ValueError, TypeError: a malformed argument, an interface of another stack.

        Cancelled while a name is looked up, it leaves nothing behind.
        """
        self._driver.check()
        options = udp_options(self._driver, allow_broadcast, ttl, multicast_ttl, multicast_interface)
        if remote is not None and not (isinstance(remote, (tuple, list)) and len(remote) in (2, 4)):
            raise TypeError(f"remote must be (host, port) or None, not {remote!r}")
        local, remote = await self._lookup.pair((host, port), remote)
        return self._udp.socket(local[0], port, remote, options, abi.SHARE_PORT if reuse_port else 0)

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], ProtocolT],
        local_addr: tuple[Host, int] | None = None,
        remote_addr: tuple[Host, int] | None = None,
        *,
        family: int = 0,
        allow_broadcast: bool | None = None,
        ttl: int = 64,
        multicast_ttl: int = 1,
        multicast_interface: Interface | None = None,
        reuse_port: bool | None = None,
    ) -> tuple[UdpTransport, ProtocolT]:
        """Open a UDP socket, as `asyncio.loop.create_datagram_endpoint` does.

        Args:
            protocol_factory: makes the protocol.
            local_addr: own (host, port); host None is all addresses, port 0 an unpredictable one.
            remote_addr: (host, port) of the one peer; of a name's addresses the first that fits `local_addr`.
            family: ``AF_INET`` or ``AF_INET6``, where neither address has one.
            allow_broadcast: whether datagrams to broadcast addresses may be sent.
            ttl, multicast_ttl, multicast_interface, reuse_port: as for `open_udp`.

        Returns:
            The transport and the protocol, after `connection_made`.

        Raises:
            OSError: ``EADDRINUSE``, ``EADDRNOTAVAIL``, ``ENETUNREACH``, ``ENOSPC``, ``ENOBUFS``.
            NameResolutionError: a name led to no address.
            ValueError, TypeError: a malformed argument, an interface of another stack.

        Cancelled while a name is looked up, it leaves nothing behind.
        """
        self._driver.check()
        options = udp_options(self._driver, bool(allow_broadcast), ttl, multicast_ttl, multicast_interface)
        local_addr, remote_addr = await self._lookup.pair(local_addr, remote_addr, family)
        share = abi.SHARE_PORT if reuse_port else 0
        return await self._udp.endpoint(protocol_factory, local_addr, remote_addr, family, options, share)

    # --- ICMP -----------------------------------------------------------------------------------------------------

    async def create_ping_session(self, host: Host, *, ttl: int | None = None) -> PingSession:
        """Open a session of echo requests with one host.

        Args:
            host: its name or address; no group. Of a name's addresses it is the one to try first.
            ttl: TTL or hop limit of requests, 1 to 255; None is 64.

        Raises:
            OSError: ``ENOSPC`` where there are too many sessions, ``ENOBUFS``.
            NameResolutionError: the name led to no address.
            ValueError, TypeError: a malformed argument.

        Cancelled while a name is looked up, it leaves nothing behind.
        """
        self._driver.check()
        address, scope = (await self._lookup.endpoints(host))[0]
        if address.is_multicast or address.is_unspecified:
            raise ValueError(f"host: {host!s} is not one host")
        limit = DEFAULT_TTL if ttl is None else check_ttl(ttl)
        return PingSession(self._driver, self._routing, address, scope, ttl=limit)


async def create_stack(
    *,
    initialize_loopback: bool = True,
    seed: bytes | int | None = None,
    name_server: tuple[str, int] | None = None,
    memory_limit: int | None = None,
    congestion_control: str = "cubic",
    ecn: bool = False,
) -> NetworkStack:
    """Make a virtual TCP/IP stack.

    Args:
        initialize_loopback: give it 127.0.0.1/8 and ::1/128.
        seed: what every random choice of the stack derives from; None takes it from the operating system.
        name_server: (address, port) of the DNS server to query; None is the stack's own loopback, port 53.
        memory_limit: bytes that the stack's memory may grow to, from 4 MiB to 1 GiB; None is 1 GiB.
        congestion_control: how TCP connections avoid congestion where nothing else is said for one of them:
            ``"cubic"`` (RFC 9438) or ``"reno"`` (RFC 5681).
        ecn: whether TCP connects ask the peer for explicit congestion notification (RFC 3168), so that routers may mark
            packets instead of dropping them. A peer that asks gets it in any case.

    Raises:
        ModuleMismatchError: ``lwip.wasm`` was not built, or does not fit this package.
        ValueError, TypeError: a malformed argument, such as a seed that is neither bytes nor int.
    """
    loop = asyncio.get_running_loop()
    packed = seed_bytes(seed)
    congestion = congestion_number(congestion_control)
    if memory_limit is not None:
        check_int("memory_limit", memory_limit, LEAST_MEMORY, MOST_MEMORY)
    core = Core(now=loop.time(), seed=packed, memory_limit=memory_limit)
    servers = () if name_server is None else (name_server,)
    driver = Driver(core, loop)
    try:
        stack = NetworkStack(driver, seed=packed, name_servers=servers, congestion=congestion, ecn=bool(ecn))
        if initialize_loopback:
            await stack.create_loopback_interface(["127.0.0.1/8", "::1/128"])
    except BaseException:
        driver.end(StackClosedError(errno.ECONNABORTED, "the stack could not be created"))
        raise
    return stack
