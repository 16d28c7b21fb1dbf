"""`SocketMethods`: the loop methods for listening sockets of the caller, and for calls that a stack cannot serve.

A base class of `Polyfill`, which has the methods for connections and datagrams of the caller's sockets.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from tcpip_wasm.compat.loop.bound_datagrams import bind_datagrams
from tcpip_wasm.compat.loop.caller_datagrams import is_datagrams
from tcpip_wasm.compat.loop.caller_listeners import (
    BoundEndpoint,
    ListenerEndpoint,
    ServerEndpoint,
    adopt,
    unbind_from_machine,
)
from tcpip_wasm.compat.loop.caller_sockets import CallerSockets, attached
from tcpip_wasm.compat.loop.direct_calls import REMEDY, mark_job
from tcpip_wasm.compat.loop.guard import INTERNET, REAL, is_permitted, refuse, warn
from tcpip_wasm.compat.route import host_text
from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets.tcp.stream_reader import keep_pieces
from tcpip_wasm.stack import NetworkStack


def host_of_sockaddr(sockaddr: tuple[Any, ...]) -> str:
    """Return the host of a socket address, with its scope."""
    host = str(sockaddr[0])
    return f"{host}%{sockaddr[3]}" if len(sockaddr) == 4 and sockaddr[3] and "%" not in host else host


class SocketMethods:
    """Methods of a loop, and `bind_socket` for `direct_calls`."""

    stack: NetworkStack
    _loop: asyncio.AbstractEventLoop
    _caller_sockets: CallerSockets

    def takes(self, host: str) -> bool:
        """Whether a host is the stack's."""
        raise NotImplementedError

    def _original(self, name: str) -> Any:
        raise NotImplementedError

    async def _attach(
        self, factory: Any, host: Any, port: Any, sock: Any, endpoint: Any, **options: Any
    ) -> tuple[Any, Any]:
        raise NotImplementedError

    # --- Binding and listening ------------------------------------------------------------------------------------

    def bind_socket(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Bind a socket to an address of the stack, as `socket.bind` does to one of the machine.

        Raises:
            OSError: ``EINVAL`` where it is bound or connected already, ``EADDRINUSE``, ``EADDRNOTAVAIL``.
            OverflowError, TypeError: a malformed address.
        """
        if attached(sock) is not None or self._caller_sockets.find(sock) is not None:
            raise network_error(errno.EINVAL, "the socket is bound already")
        if not isinstance(address[1], int):
            raise TypeError(f"{type(address[1]).__name__!r} object cannot be interpreted as an integer")
        if not 0 <= address[1] <= 65535:
            raise OverflowError("bind(): port must be 0-65535.")
        if is_datagrams(sock):
            bind_datagrams(self.stack, self._caller_sockets, sock, address)
            return
        host = host_of_sockaddr((host_text(address[0]), *address[1:]))
        self._caller_sockets.bind(sock, BoundEndpoint(self.stack, sock, host, address[1], self._caller_sockets))

    def _bound(self, sock: Any) -> BoundEndpoint | None:
        """Return the address of the stack that a socket is bound to, or is moved to; None for the machine's."""
        endpoint = self._caller_sockets.find(sock) or attached(sock)
        if isinstance(endpoint, BoundEndpoint):
            return endpoint
        if isinstance(endpoint, ListenerEndpoint):
            return endpoint.bound
        if (
            endpoint is not None
            or type(sock) is not REAL
            or sock.family not in INTERNET
            or sock.type != socket.SOCK_STREAM
        ):
            return None
        with suppress(OSError):
            sock.getpeername()
            return None  # connected on the machine
        name = sock.getsockname()
        if not self.takes(name[0]) or is_permitted():
            return None
        unbind_from_machine(sock)
        self.bind_socket(sock, name)
        return cast(BoundEndpoint, attached(sock))

    async def _serve_socket(self, factory: Callable[[], asyncio.BaseProtocol], sock: Any, **options: Any) -> Any:
        """Return a server of the stack at the address of a socket; None for a socket of the machine."""
        bound = self._bound(sock)
        if bound is None:
            return None
        for unused in ("family", "flags", "reuse_address"):
            options.pop(unused, None)
        options["reuse_port"] = bool(bound.share) or options.get("reuse_port")
        listening = self._caller_sockets.find(sock)
        self._caller_sockets.forget(sock)
        waiting = listening.stop() if isinstance(listening, ListenerEndpoint) else None
        server = await bound.stack.create_server(
            lambda: keep_pieces(factory()), cast(Any, bound.host), bound.port, **options
        )
        ServerEndpoint(bound, server, sock)
        if waiting:
            adopt(server, waiting, cast(Any, server._factory))  # noqa: SLF001  for this package alone: the class is public
        return server

    async def sock_accept(self, sock: Any) -> tuple[Any, Any]:
        """As the loop's. A socket that is bound to an address of the stack starts to listen there."""
        endpoint = self._caller_sockets.find(sock)
        if endpoint is None and self._bound(sock) is not None:
            if sock.gettimeout() != 0:
                raise ValueError("the socket must be non-blocking")
            sock.listen()
            endpoint = self._caller_sockets.find(sock)
        if not isinstance(endpoint, ListenerEndpoint):
            accepted = await self._original("sock_accept")(sock)
            return cast("tuple[Any, Any]", accepted)
        if sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        connection = await endpoint.accept()
        accepted_sock = REAL(sock.family, sock.type, sock.proto)
        accepted_sock.setblocking(False)
        self._caller_sockets.put(accepted_sock, connection)
        return accepted_sock, connection.transport.get_extra_info("peername")

    async def connect_accepted_socket(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], sock: Any, **options: Any
    ) -> tuple[Any, Any]:
        """As the loop's."""
        endpoint = self._caller_sockets.take(sock)
        if endpoint is None:
            connect = self._original("connect_accepted_socket")
            return cast("tuple[Any, Any]", await connect(protocol_factory, sock, **options))
        return await self._attach(protocol_factory, None, None, sock, endpoint, server_side=True, **options)

    # --- What a stack cannot serve --------------------------------------------------------------------------------

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
        """As the loop's, but for sockets that represent one of the stack: their descriptors never become readable."""
        self._check_descriptor("add_reader", fd)
        return self._original("add_reader")(fd, callback, *args)

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> Any:
        """As the loop's, with the same exception as `add_reader`."""
        self._check_descriptor("add_writer", fd)
        return self._original("add_writer")(fd, callback, *args)

    def _check_descriptor(self, call: str, fd: Any) -> None:
        if self._caller_sockets.has_descriptor(fd):
            raise network_error(
                errno.EOPNOTSUPP,
                f"loop.{call}() of a socket that represents one of a stack, which has no descriptor: use "
                "loop.sock_recv() and the like, or run the program in another thread inside polyfill_socket()",
            )

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """As the loop's. Socket calls of the job are attributed to the loop."""
        return self._original("run_in_executor")(executor, mark_job(self._loop, executor, func), *args)

    async def subprocess_exec(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """As the loop's. uvloop's raises no audit event, so the refusal of a strict block is here."""
        refuse(f"loop.subprocess_exec({args[0]!r})" if args else "loop.subprocess_exec()", "")
        return await self._original("subprocess_exec")(protocol_factory, *args, **options)

    async def subprocess_shell(self, protocol_factory: Any, cmd: Any, **options: Any) -> Any:
        """As the loop's; see `subprocess_exec`."""
        refuse(f"loop.subprocess_shell({cmd!r})", "")
        return await self._original("subprocess_shell")(protocol_factory, cmd, **options)

    def _check_connected(self, sock: Any, call: str) -> None:
        """Refuse, or warn of, a socket that is connected on the machine to a destination of the stack."""
        if type(sock) is not REAL or sock.family not in INTERNET or is_permitted():
            return
        try:
            peer = sock.getpeername()
        except OSError:
            return
        if self.takes(peer[0]):
            warn(f"loop.{call}() of a socket connected to {peer!r}", peer[0], REMEDY)
