"""A loop's network methods, replaced by ones that use a stack for the destinations that a route chooses.

The methods are set on the loop *instance*, which works with asyncio's loops and with uvloop's, and removed at the end.
Everything else of the loop is untouched: pipes, subprocesses, signals, Unix sockets, and sockets that are connected on
the machine. This module owns which methods are replaced and in which order. `stack` connects, `caller_sockets` has the
table of the caller's sockets, `loop_sockets` serves listening sockets, and `direct_calls` and `guard` handle calls that
bypass the loop.

The reasons are in docs/explanation/existing-programs.md.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl as ssl_module
import threading
from asyncio.sslproto import _SSLProtocolTransport
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from tcpip_wasm.compat.loop import bound_datagrams, direct_calls
from tcpip_wasm.compat.loop.caller_datagrams import (
    DatagramEndpoint,
    discard,
    is_datagrams,
    own_address,
    peer_address,
    wants_broadcasts,
)
from tcpip_wasm.compat.loop.caller_listeners import BoundEndpoint
from tcpip_wasm.compat.loop.caller_sockets import CallerSockets, ConnectionEndpoint, attached
from tcpip_wasm.compat.loop.guard import INTERNET, Guard, watch_extensions
from tcpip_wasm.compat.loop.loop_sockets import SocketMethods, host_of_sockaddr
from tcpip_wasm.compat.route import ANY_ADDRESS, Route, RouteLike, literal
from tcpip_wasm.errors import NameResolutionError, network_error
from tcpip_wasm.names.lookup import port_number
from tcpip_wasm.sockets import TcpTransport, UdpTransport
from tcpip_wasm.sockets.tcp.sendfile import check_sendfile, sendfile
from tcpip_wasm.sockets.tcp.stream_reader import keep_pieces
from tcpip_wasm.sockets.tls.tls_transport import client_tls, secured, server_tls, start_tls
from tcpip_wasm.stack import NetworkStack
from tcpip_wasm.stack_parts import parts_of

REPLACED: Final = (
    "create_connection",
    "create_server",
    "create_datagram_endpoint",
    "getaddrinfo",
    "getnameinfo",
    "start_tls",
    "sock_accept",
    "sendfile",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_sendfile",
    "connect_accepted_socket",
    "add_reader",
    "add_writer",
    "run_in_executor",
    "subprocess_exec",
    "subprocess_shell",
)
"""The loop's methods that `Polyfill` replaces."""

_EOPNOTSUPP: Final = errno.EOPNOTSUPP
_NOT_GIVEN: Final = object()
_active = direct_calls.active
_REMEDY: Final = (
    "Use asyncio, which the stack serves; leave the destination to the machine by route=; or wrap what is meant to "
    "reach the machine in machine_network()"
)


def polyfill(stack: NetworkStack, route: RouteLike = None, *, strict: bool = False) -> Polyfill:
    """Return a context manager inside which the stack's loop uses the stack; see `NetworkStack.polyfill`."""
    return Polyfill(stack, route, strict=strict)


class Polyfill(SocketMethods):
    """Replaces the machine's network by a stack, for all tasks of the stack's loop.

    Args:
        stack: the stack; or, where each task has a network of its own, a function that returns the calling task's
            stack, and may raise.
        route: which destinations are the stack's, see `RouteLike`; the others belong to an outer polyfill or to the
            machine. The route decides on a name; one that is not the stack's is looked up by the machine, and the route
            decides on its addresses. ``"0.0.0.0"`` is the host of a server that names none.
        loop: the loop, where a function chooses the stack.
        strict: whether calls that would use the machine's network instead of the stack are refused, see
            `NetworkStack.polyfill`; a `Guard` has its own rules.

    Raises:
        ValueError, TypeError: a malformed route.
    """

    def __init__(
        self,
        stack: NetworkStack | Callable[[], NetworkStack],
        route: RouteLike = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        strict: bool | Guard = False,
    ) -> None:
        self._chosen = stack
        self._route = Route(route)
        self._guard = strict if isinstance(strict, Guard) else None
        if strict is True:
            self._guard = Guard("polyfill(strict=True)", _REMEDY, allows=lambda host: not self.takes(host))
        self._restore_extensions: Callable[[], None] | None = None
        self.thread: int = 0  # the thread that entered: its code belongs to the loop even while that is not running
        self._loop = loop if loop is not None else self.stack.loop
        self._caller_sockets = CallerSockets()
        self._machine: dict[str, Any] = {}  # the methods that serve other destinations
        self._before: dict[str, Any] = {}  # the entries that the loop's own dictionary had
        self._ended = False

    def __repr__(self) -> str:
        return f"<Polyfill {'active' if self._machine else 'inactive'} {self._chosen!r}>"

    @property
    def stack(self) -> NetworkStack:  # type: ignore[override]
        """The stack of the calling task."""
        chosen = self._chosen
        return chosen if isinstance(chosen, NetworkStack) else chosen()

    def takes(self, host: str) -> bool:
        """Whether a host is the stack's."""
        return self._route.takes(host)

    def __enter__(self) -> Polyfill:
        """Raises RuntimeError where it is entered already or on another loop than the stack's, StackError where the
        stack has ended."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = self._loop
        if running is not self._loop:
            raise RuntimeError("a polyfill replaces the loop of its stack, and another loop is running")
        if self._machine:
            raise RuntimeError("this polyfill is active already; make another one")
        if isinstance(self._chosen, NetworkStack):
            parts_of(self._chosen).driver.check()
        self._ended = False
        for name in REPLACED:
            self._before[name] = vars(self._loop).get(name, _NOT_GIVEN)
            self._machine[name] = getattr(self._loop, name)
            setattr(self._loop, name, getattr(self, name))
        self.thread = threading.get_ident()
        _active.setdefault(self._loop, []).append(self)
        direct_calls.install()
        bound_datagrams.install()
        everything = self._route.takes_everything
        self._restore_extensions = watch_extensions(lambda: everything and direct_calls.is_taken_by_loop(ANY_ADDRESS))
        if self._guard is not None:
            self._guard.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the methods. Raises RuntimeError where a later polyfill is active; this one then ends with that."""
        if not self._machine:
            raise RuntimeError("this polyfill is not active")
        self._ended = True
        active = _active[self._loop]
        if active[-1] is not self:
            raise RuntimeError("polyfills must end in reverse order, and one that was entered later is still active")
        while active and active[-1]._ended:  # noqa: SLF001  another polyfill of the same loop
            active.pop()._restore()  # noqa: SLF001  another polyfill of the same loop

    def _restore(self) -> None:
        if self._guard is not None:
            self._guard.__exit__()
        if self._restore_extensions is not None:
            self._restore_extensions()
            self._restore_extensions = None
        bound_datagrams.uninstall()
        direct_calls.uninstall()
        for name, before in self._before.items():
            if before is _NOT_GIVEN:
                delattr(self._loop, name)
            else:
                setattr(self._loop, name, before)
        self._before.clear()
        self._machine.clear()
        if not (isinstance(self._chosen, NetworkStack) and self._chosen.closed):
            self._caller_sockets.clear()

    def _original(self, name: str) -> Any:
        """Return the method for other destinations; after the block, the loop's own method."""
        return self._machine.get(name) or getattr(self._loop, name)

    # --- Destinations ---------------------------------------------------------------------------------------------

    async def _destination(self, host: str, port: Any, family: int, flags: int) -> str | tuple[str, ...] | None:
        """Return the destination that the stack gets for a host: the host itself, or those of its addresses, looked up
        by the machine, that the route takes; None where none is the stack's."""
        if self._route.takes(host):
            return host
        if literal(host) is not None:
            return None
        resolve = self._original("getaddrinfo")
        infos = await resolve(host, port, family=family, type=socket.SOCK_STREAM, flags=flags)
        return tuple(host_of_sockaddr(info[4]) for info in infos if self._route.takes(info[4][0])) or None

    async def _resolve(self, host: str | None, port: Any, family: int, kind: int, proto: int, flags: int) -> list[Any]:
        try:
            infos = await self.stack.getaddrinfo(host, port, family=family, type=kind, proto=proto, flags=flags)
        except ValueError as error:  # programs expect the error of an unknown name for a malformed host
            raise NameResolutionError(socket.EAI_NONAME, str(error)) from None
        if host is not None and literal(host) is None:
            for info in infos:
                self._route.learn(info[4][0])
        return cast("list[Any]", infos)

    # --- Connections ----------------------------------------------------------------------------------------------

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        *,
        sock: Any = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """As the loop's; a socket that the caller has connected on the machine stays the machine's."""
        if sock is not None:
            endpoint = self._caller_sockets.take(sock)
            if endpoint is None:
                self._check_connected(sock, "create_connection")
                connect = self._original("create_connection")
                return cast("tuple[Any, Any]", await connect(protocol_factory, host, port, sock=sock, **options))
            return await self._attach(protocol_factory, host, port, sock, endpoint, **options)
        if host is None and port is None:
            raise ValueError("host and port was not specified and no sock specified")
        name = _text(host)
        family, flags = options.get("family", 0), options.get("flags", 0)
        destination = await self._destination(name or "localhost", port, family, flags)
        if destination is None:
            connect = self._original("create_connection")
            return cast("tuple[Any, Any]", await connect(protocol_factory, host, port, **options))
        if options.get("ssl") and options.get("server_hostname") is None:
            if not name:
                raise ValueError("You must set server_hostname when using ssl without a host")
            options["server_hostname"] = name
        return await self._connect(protocol_factory, destination, port, **options)

    async def _connect(
        self, factory: Callable[[], Any], destination: str | tuple[str, ...], port: Any, **options: Any
    ) -> tuple[Any, Any]:
        transport, protocol = await self.stack.create_connection(
            lambda: keep_pieces(factory()), destination, port_number(port), **options
        )
        if isinstance(destination, str) and literal(destination) is None:
            self._route.learn(
                transport.get_extra_info("peername")[0]
            )  # programs connect again to an address that answered
        return transport, protocol

    async def _attach(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        host: Any,
        port: Any,
        sock: socket.socket,
        endpoint: ConnectionEndpoint,
        *,
        ssl: Any = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        server_side: bool = False,
        **_: Any,
    ) -> tuple[Any, Any]:
        """Pass the connection that a socket represents to a protocol, and close the socket."""
        try:
            if host is not None or port is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            times = ssl_handshake_timeout, ssl_shutdown_timeout
            tls = server_tls(ssl, *times) if server_side else client_tls(ssl, None, server_hostname, *times)
            transport = endpoint.take_over()
            protocol = keep_pieces(factory())
            waiter = self._loop.create_future()
            wrapper = tls.wrap(self._loop, protocol, waiter) if tls else None
        except BaseException:
            endpoint.transport.abort()
            raise
        finally:
            sock.close()
        transport.set_protocol(wrapper or protocol)
        transport._begin()  # noqa: SLF001  for this package alone: the class is public
        transport.resume_reading()
        return (await secured(wrapper, waiter) if wrapper else transport), protocol

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        *,
        sock: Any = None,
        family: int = 0,
        flags: int = socket.AI_PASSIVE,
        **options: Any,
    ) -> Any:
        """As the loop's. Either all hosts of a server are the stack's or none is."""
        if sock is not None and host is None and port is None:
            server = await self._serve_socket(protocol_factory, sock, **options)
            if server is not None:
                return server
        hosts = [_text(one) for one in ([host] if isinstance(host, (str, bytes)) or host is None else host)]
        ours = [self._route.takes(one or ANY_ADDRESS) for one in hosts] if sock is None else [False]
        if not any(ours):
            serve = self._original("create_server")
            options |= {"family": family, "flags": flags}
            return await serve(protocol_factory, host, port, sock=sock, **options)
        if not all(ours):
            raise ValueError(f"host: {host!r} is partly the stack's and partly not; make two servers")
        if host is None and port is None:
            raise ValueError("Neither host/port nor sock were specified")
        addresses: list[str | None] = []
        for one in hosts:
            if one:
                infos = await self._resolve(one, port, family, socket.SOCK_STREAM, 0, flags)
                addresses += [host_of_sockaddr(info[4]) for info in infos]
            else:
                addresses.append({int(socket.AF_INET): "0.0.0.0", int(socket.AF_INET6): "::"}.get(family))
        options.pop("reuse_address", None)  # a stack always permits the port of an earlier connection
        unique = cast("Iterable[str]", dict.fromkeys(addresses))
        return await self.stack.create_server(
            lambda: keep_pieces(protocol_factory()), unique, port_number(port), **options
        )

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl_module.SSLContext,
        **options: Any,
    ) -> Any:
        """As the loop's, for transports of the stack and of the machine."""
        if isinstance(_lowest(transport), TcpTransport):
            return await start_tls(self._loop, transport, protocol, sslcontext, **options)
        return await self._original("start_tls")(transport, protocol, sslcontext, **options)

    async def sendfile(
        self, transport: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int:
        """For transports of the stack as asyncio's, on uvloop's loops too; for others as the loop's."""
        if isinstance(_lowest(transport), (TcpTransport, UdpTransport)):
            return await sendfile(self._loop, transport, file, offset, count, fallback=fallback)
        send = self._original("sendfile")
        return await send(transport, file, offset, count, fallback=fallback)  # type: ignore[no-any-return]

    # --- Datagrams ------------------------------------------------------------------------------------------------

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        local_addr: Any = None,
        remote_addr: Any = None,
        **options: Any,
    ) -> tuple[Any, Any]:
        """As the loop's. The route decides on the remote address, or without one on the local address."""
        sock: Any = options.get("sock")
        if is_datagrams(sock) and len(options) == 1 and not (local_addr or remote_addr) and self._is_ours(sock):
            return await self._attach_datagrams(protocol_factory, sock)
        address = remote_addr or local_addr or (ANY_ADDRESS, 0)
        theirs = options.get("sock") is not None or options.get("family", 0) not in (0, *INTERNET)
        if theirs or isinstance(address, str) or not self._route.takes(_text(address[0]) or ANY_ADDRESS):
            create = self._original("create_datagram_endpoint")
            return cast("tuple[Any, Any]", await create(protocol_factory, local_addr, remote_addr, **options))
        family = options.get("family", 0)
        for unused in ("sock", "flags", "proto"):
            options.pop(unused, None)
        own, peer = [
            given and (await self._datagram_host(given, family), port_number(given[1]))
            for given in (local_addr, remote_addr)
        ]
        made = await self.stack.create_datagram_endpoint(cast(Any, protocol_factory), own, peer, **options)
        return cast("tuple[Any, Any]", made)

    def _is_ours(self, sock: Any) -> bool:
        """Whether a UDP socket of the caller is the stack's: the route decides on its peer, or else on its address."""
        if self._caller_sockets.find(sock) is not None:
            return True
        return self._route.takes((peer_address(sock) or own_address(sock) or (ANY_ADDRESS,))[0])

    async def _open_datagrams(self, sock: socket.socket, peer: Any = None) -> DatagramEndpoint:
        """Open a UDP socket of the stack for a caller's socket to represent, with the same address."""
        own = own_address(sock)
        old = self._caller_sockets.take(sock)
        if old is not None:
            old.transport.abort()  # releases its port at once
        options: dict[str, Any] = {"family": sock.family, "allow_broadcast": wants_broadcasts(sock)}
        await self._caller_sockets.connect(
            sock, lambda: self.stack.create_datagram_endpoint(DatagramEndpoint, own, peer, **options)
        )
        endpoint = cast(DatagramEndpoint, self._caller_sockets.find(sock))
        bound_datagrams.apply_options(sock, endpoint)
        return endpoint

    async def _attach_datagrams(self, factory: Callable[[], Any], sock: socket.socket) -> tuple[Any, Any]:
        """Pass the UDP socket that a caller's socket represents to a protocol, and close the caller's."""
        endpoint = self._caller_sockets.find(sock) or await self._open_datagrams(sock, peer_address(sock))
        self._caller_sockets.take(sock)
        try:
            protocol = factory()
            return endpoint.hand_over(protocol), protocol
        except BaseException:
            endpoint.transport.abort()
            raise
        finally:
            discard(sock)

    async def _datagram_host(self, address: tuple[Any, ...], family: int) -> str:
        """Return the stack's address for a host that the route takes, or ``""`` for any."""
        host = _text(address[0])
        if not host:
            return host
        infos = await self._resolve(host, address[1], family, socket.SOCK_DGRAM, 0, 0)
        return host_of_sockaddr(infos[0][4])

    # --- Names ----------------------------------------------------------------------------------------------------

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """As the loop's."""
        name = _text(host)
        if self._route.takes(name or ANY_ADDRESS):
            return await self._resolve(name or None, port, family, type, proto, flags)
        resolve = self._original("getaddrinfo")
        return cast("list[Any]", await resolve(host, port, family=family, type=type, proto=proto, flags=flags))

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int = 0) -> tuple[str, str]:
        """As the loop's."""
        if not self._route.takes(sockaddr[0]):
            return cast("tuple[str, str]", await self._original("getnameinfo")(sockaddr, flags))
        return await self.stack.getnameinfo(sockaddr, flags)

    # --- The caller's sockets -------------------------------------------------------------------------------------

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """As the loop's; a socket to a destination of the stack is never connected, it represents a connection."""
        if sock.family not in INTERNET:
            return await self._original("sock_connect")(sock, address)  # type: ignore[no-any-return]
        destination = await self._destination(_text(address[0]) or "localhost", address[1], sock.family, 0)
        if destination is None:
            return await self._original("sock_connect")(sock, address)  # type: ignore[no-any-return]
        family = sock.family
        if sock.type == socket.SOCK_DGRAM:
            host = destination if isinstance(destination, str) else destination[0]
            await self._open_datagrams(sock, (host, port_number(address[1])))
            return None
        if sock.type != socket.SOCK_STREAM:
            raise network_error(_EOPNOTSUPP, f"a stack has no sockets of type {sock.type}")
        options: dict[str, Any] = {"family": family}
        bound = attached(sock)
        if isinstance(bound, BoundEndpoint):
            options["local_addr"] = bound.name[:2]
        await self._caller_sockets.connect(
            sock, lambda: self._connect(ConnectionEndpoint, destination, address[1], **options)
        )
        return None

    async def sock_recv(self, sock: Any, n: int) -> bytes:
        """As the loop's."""
        endpoint = self._caller_sockets.find(sock)
        return cast(bytes, await (endpoint.receive(n) if endpoint else self._original("sock_recv")(sock, n)))

    async def sock_recv_into(self, sock: Any, buf: Any) -> int:
        """As the loop's."""
        endpoint = self._caller_sockets.find(sock)
        if endpoint is None:
            return await self._original("sock_recv_into")(sock, buf)  # type: ignore[no-any-return]
        view = memoryview(buf).cast("B")
        data = await endpoint.receive(len(view))
        view[: len(data)] = data
        return len(data)

    async def sock_recvfrom(self, sock: Any, bufsize: int) -> tuple[bytes, Any]:
        """As the loop's."""
        endpoint = self._caller_sockets.find(sock)
        if endpoint is None and is_datagrams(sock) and own_address(sock) is not None and self._is_ours(sock):
            endpoint = await self._open_datagrams(sock, peer_address(sock))
        if endpoint is None:
            return await self._original("sock_recvfrom")(sock, bufsize)  # type: ignore[no-any-return]
        if isinstance(endpoint, DatagramEndpoint):
            return await endpoint.receive_from(bufsize)
        return await endpoint.receive(bufsize), None

    async def sock_recvfrom_into(self, sock: Any, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        """As the loop's."""
        if self._caller_sockets.find(sock) is None and not (is_datagrams(sock) and self._is_ours(sock)):
            return await self._original("sock_recvfrom_into")(sock, buf, nbytes)  # type: ignore[no-any-return]
        view = memoryview(buf).cast("B")
        data, source = await self.sock_recvfrom(sock, nbytes or len(view))
        view[: len(data)] = data
        return len(data), source

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        """As the loop's."""
        endpoint = self._caller_sockets.find(sock)
        await (endpoint.send(data) if endpoint else self._original("sock_sendall")(sock, data))

    async def sock_sendto(self, sock: Any, data: Any, address: Any) -> int:
        """As the loop's. A socket that has sent to a destination of the stack receives from the stack alone."""
        endpoint = self._caller_sockets.find(sock)
        if isinstance(endpoint, ConnectionEndpoint):
            await endpoint.send(data)
            return len(data)
        if is_datagrams(sock) and self._route.takes(_text(address[0]) or "localhost"):
            endpoint = endpoint or await self._open_datagrams(sock)
            host = await self._datagram_host((_text(address[0]) or "localhost", *address[1:]), sock.family)
            return await endpoint.send_to(data, (host, *address[1:]))
        if sock.family in INTERNET and sock.type != socket.SOCK_DGRAM and self._route.takes(_text(address[0])):
            raise network_error(_EOPNOTSUPP, "the socket is not connected over the stack")
        return await self._original("sock_sendto")(sock, data, address)  # type: ignore[no-any-return]

    async def sock_sendfile(
        self, sock: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int:
        """As the loop's."""
        endpoint = self._caller_sockets.find(sock)
        if endpoint is None:
            send = self._original("sock_sendfile")
            return await send(sock, file, offset, count, fallback=fallback)  # type: ignore[no-any-return]
        check_sendfile(file, offset, count)
        if not fallback:
            raise asyncio.SendfileNotAvailableError("a connection of a stack has no descriptor to send a file to")
        file.seek(offset)
        sent = 0
        try:
            while data := await self._loop.run_in_executor(
                None, file.read, 65536 if count is None else min(65536, count - sent)
            ):
                await endpoint.send(data)
                sent += len(data)
        finally:
            file.seek(offset + sent)
        return sent


def _lowest(transport: Any) -> Any:
    """Return the transport below TLS, or below TLS within TLS."""
    while isinstance(transport, _SSLProtocolTransport):
        transport = cast(Any, transport)._ssl_protocol._transport  # noqa: SLF001  asyncio has no public way below its TLS transport
    return transport


def _text(host: Any) -> str:
    if host is None:
        return ""
    return host.decode("idna") if isinstance(host, (bytes, bytearray)) else str(host)
