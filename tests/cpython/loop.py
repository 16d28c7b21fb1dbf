"""A loop for CPython's tests: asyncio's own, with a stack instead of its network, and a bridge for their threads.

Those tests put one end of a connection on the loop and the other into a thread with a real, blocking socket on
127.0.0.1. Here the loop's end is always a stack's; where the other one is real, a relay stands between the kernel's
loopback and the stack's, so that every byte, end of file and loss crosses the stack.

    the loop connects to a real server    a listener on the stack for that one connection, relayed to the server
    a real client connects to the loop    a real listener on the port of the stack's server, relayed to it
    the loop is given a real socket       a listener or a connection of the stack, relayed to that socket
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import suppress
from typing import Any, ClassVar

from tcpip_wasm import create_stack

TURNS = 8
"""Loop iterations in which a reset gets from a transport of the stack to the real socket of the relay."""


ANOTHER_ADDRESS = "192.0.2.1"
"""An address of the stack for relays whose port is also that of a server of the stack."""


class _Relay(asyncio.Protocol):
    """One end of a relay; data that arrives here is sent at the other end."""

    def __init__(self, other: _Relay | None = None, caller: socket.socket | None = None) -> None:
        self.other = other
        self._caller = caller  # whose socket this one is a duplicate of
        self.transport: Any = None
        self._early: list[bytes] = []
        self._eof = False
        if other is not None:
            other.other = self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        other = self.other
        if other is None or other.transport is None:
            self.transport.pause_reading()
            return
        for end in (self, other):
            end.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        assert self.other is not None
        with suppress(OSError, RuntimeError):
            self.other.transport.write_eof()
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        if self._caller is not None:
            self._caller.close()
        if self.other is not None and self.other.transport is not None:
            if error is None:
                self.other.transport.close()
            else:
                self.other.transport.abort()

    def pause_writing(self) -> None:
        assert self.other is not None
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        assert self.other is not None
        if self.other.transport is not None:
            self.other.transport.resume_reading()


def _is_plain(sock: Any) -> bool:
    """Whether it is a TCP socket of the machine's."""
    return isinstance(sock, socket.socket) and sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM


class StackLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, over a stack."""

    counts: ClassVar = {"connections": 0, "relayed": 0, "given sockets": 0}

    def __init__(self, selector: Any = None) -> None:
        super().__init__(selector)
        self._servers: dict[int, Any] = {}
        self._outside: list[Any] = []
        self._expected: dict[tuple[str, int], deque[_Relay]] = {}
        self._doors: dict[tuple[str, int], Any] = {}
        self.stack = self.run_until_complete(create_stack())
        self.run_until_complete(self.stack.create_tun_interface(ip=f"{ANOTHER_ADDRESS}/32"))
        self._polyfill = self.stack.polyfill()
        stack: Any = self.stack
        self._stack_connect, self._stack_serve = stack.create_connection, stack.create_server
        stack.create_connection, stack.create_server = self._connect, self._serve
        self._polyfill.__enter__()

    def run_until_complete(self, future: Any) -> Any:
        """As asyncio's; connections that a failure has closed are closed at the bridge, too, before the loop stops."""
        try:
            return super().run_until_complete(future)
        except BaseException:
            if not self.is_closed() and not self.is_running():
                for _ in range(TURNS):
                    self.call_soon(self.stop)
                    self.run_forever()
            raise

    async def _connect(self, factory: Any, host: str, port: int, **options: Any) -> Any:
        self.counts["connections"] += 1
        if port in self._servers and self._servers[port].is_serving():
            return await self._stack_connect(factory, host, port, **options)
        self.counts["relayed"] += 1
        sock = await self._real(host, port)
        return await self._through(sock, factory, host, port, **options)

    async def create_connection(self, protocol_factory: Any, *arguments: Any, sock: Any = None, **options: Any) -> Any:
        """As asyncio's; a connected socket of the caller is relayed over a connection of the stack."""
        if not _is_plain(sock):
            return await super().create_connection(protocol_factory, *arguments, sock=sock, **options)
        self.counts["given sockets"] += 1
        host, port = sock.getpeername()[:2]
        # The relay has a descriptor of its own: a caller that closes the socket would free one that the loop watches.
        own = sock.dup()
        own.setblocking(False)
        return await self._through(own, protocol_factory, host, port, caller=sock, **options)

    async def create_server(self, protocol_factory: Any, *arguments: Any, sock: Any = None, **options: Any) -> Any:
        """As asyncio's; connections to a bound socket of the caller are relayed to a server of the stack."""
        if not _is_plain(sock):
            return await super().create_server(protocol_factory, *arguments, sock=sock, **options)
        self.counts["given sockets"] += 1
        options = {name: value for name, value in options.items() if name not in ("family", "flags")}
        return await self._serve(protocol_factory, *sock.getsockname()[:2], sock=sock, **options)

    async def _through(
        self, sock: Any, factory: Any, host: str, port: int, caller: socket.socket | None = None, **options: Any
    ) -> Any:
        """Connect over the stack to a relay to a socket's peer; the relay listens at the peer's address."""
        base = asyncio.SelectorEventLoop.__mro__[1].create_connection  # type: ignore[attr-defined]
        _, real = await base(self, lambda: _Relay(caller=caller), None, None, sock=sock)
        # One listener for each address, as long as it is connected to; connections of one address are alike.
        if port in self._servers:
            host, port = ANOTHER_ADDRESS, port  # the server's own is taken
        waiting = self._expected.setdefault((host, port), deque())
        waiting.append(real)
        if (host, port) not in self._doors:
            door = await self._stack_serve(lambda: _Relay(waiting.popleft()), host, port)
            self._doors[host, port] = door
        try:
            return await self._stack_connect(factory, host, port, **options)
        except BaseException:
            if real in waiting:
                waiting.remove(real)
                real.transport.abort()
            raise
        finally:
            if not waiting and (host, port) in self._doors:
                self._doors.pop((host, port)).close()

    async def _real(self, host: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        base: Any = asyncio.SelectorEventLoop.__mro__[1]
        try:
            await base.sock_connect(self, sock, (host, port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _serve(self, factory: Any, host: Any, port: int, *, sock: Any = None, **options: Any) -> Any:
        server = await self._stack_serve(factory, host, port, **options)
        self._servers[server.port] = server
        for own in server.sockets:
            name = own.getsockname()
            target = {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(name[0], name[0])
            base: Any = asyncio.SelectorEventLoop.__mro__[1]

            def relay(target: str = target) -> _Relay:
                near = _Relay()

                async def onward() -> None:
                    self.counts["relayed"] += 1
                    try:
                        await self._stack_connect(lambda: _Relay(near), target, server.port)
                    except OSError:
                        near.transport.abort()

                self._tasks.add(task := self.create_task(onward()))
                task.add_done_callback(self._tasks.discard)
                return near

            with suppress(OSError):  # the port is in use: the kernel's clients cannot reach this server
                hosts = ["127.0.0.1", "::1"] if name[0] == "::" else [target]
                if sock is not None:
                    outside = await base.create_server(self, relay, sock=sock)
                else:
                    outside = await base.create_server(self, relay, hosts, name[1], reuse_address=True)
                self._outside.append(outside)
                self._close_with(server, outside)
        return server

    @property
    def _tasks(self) -> set[Any]:
        tasks: set[Any] = self.__dict__.setdefault("_relaying", set())
        return tasks

    @staticmethod
    def _close_with(server: Any, outside: Any) -> None:
        close = server.close

        def both() -> None:
            outside.close()
            close()

        server.close = both

    def close(self) -> None:
        if not self.is_closed() and not self.is_running():
            for server in self._outside:
                server.close()
            with suppress(RuntimeError):
                self._polyfill.__exit__(None, None, None)
            for task in self._tasks:
                task.cancel()
            self.run_until_complete(self.stack.aclose())
            for _ in range(3):
                self.run_until_complete(asyncio.sleep(0))
        super().close()
