"""One question to one server: by UDP from a socket of its own, and by TCP where the answer does not fit.

Owns what makes a forged answer unlikely (RFC 5452): a fresh socket with an unpredictable port for each question, an
unpredictable id, and answers taken only from the server that was asked. It is handed the means to open sockets.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from tcpip_wasm.errors import StackError
from tcpip_wasm.names import wire
from tcpip_wasm.names.prng import Unpredictable
from tcpip_wasm.names.servers import OpenDatagram, OpenStream, Server
from tcpip_wasm.names.statistics import Counters

FIRST_PORT: Final = 32768
"""The lowest source port: below it are the ports of services, which a question must not get in the way of."""

PORT_ATTEMPTS: Final = 8
"""How many source ports are tried before a stack is taken to have none left."""

TCP_SECONDS: Final = 5.0
"""For connecting, asking and reading an answer by TCP."""

BAD_ANSWERS: Final = 100
"""Answers to one question that are read and turn out to be wrong; what comes after that is not even read."""


class Exchange:
    """Asks servers.

    Args:
        open_datagram, open_stream: open what a question travels by.
        numbers: gives ids and ports.
        counters: counts.
    """

    def __init__(
        self, open_datagram: OpenDatagram, open_stream: OpenStream, numbers: Unpredictable, counters: Counters
    ) -> None:
        self._open_datagram = open_datagram
        self._open_stream = open_stream
        self._numbers = numbers
        self._counters = counters

    async def ask(self, server: Server, name: wire.Name, rdtype: int, seconds: float) -> wire.Response:
        """Ask a server and return its answer, whatever its code.

        Args:
            server: whom.
            name: whose records.
            rdtype: of which type.
            seconds: how long to wait for an answer by UDP.

        Raises:
            TimeoutError: no answer came.
            OSError: the server cannot be reached.
            StackError: the stack is gone.

        Cancelled, it leaves no socket behind.
        """
        response = await self._ask_by_udp(server, name, rdtype, seconds, edns=True)
        if response.rcode in (wire.FORMERR, wire.NOTIMP) and not response.truncated:
            # A server older than EDNS (RFC 6891, section 7).
            response = await self._ask_by_udp(server, name, rdtype, seconds, edns=False)
        if response.truncated:
            self._counters.truncated += 1
            response = await self._ask_by_tcp(server, name, rdtype)
        return response

    async def _ask_by_udp(
        self, server: Server, name: wire.Name, rdtype: int, seconds: float, *, edns: bool
    ) -> wire.Response:
        number = self._numbers.below(0x10000)
        query = wire.build_query(name, rdtype, number, edns=edns)

        def read(data: bytes) -> wire.Response:
            return wire.read_response(data, number=number, name=name, rdtype=rdtype)

        waiter = _Waiter(server, read, self._counters)
        async with asyncio.timeout(seconds):
            transport = await self._open(waiter, server)
            try:
                self._counters.udp_queries += 1
                transport.sendto(query)
                return await waiter.answer
            finally:
                transport.abort()

    async def _open(self, waiter: _Waiter, server: Server) -> asyncio.DatagramTransport:
        for attempt in range(PORT_ATTEMPTS):
            port = FIRST_PORT + self._numbers.below(0x10000 - FIRST_PORT)
            try:
                transport, _ = await self._open_datagram(lambda: waiter, server, port)
            except StackError:
                raise
            except OSError as error:
                if error.errno != errno.EADDRINUSE or attempt == PORT_ATTEMPTS - 1:
                    raise
            else:
                return transport
        raise AssertionError("the last attempt returns or raises")

    async def _ask_by_tcp(self, server: Server, name: wire.Name, rdtype: int) -> wire.Response:
        number = self._numbers.below(0x10000)
        query = wire.build_query(name, rdtype, number, edns=True)
        async with asyncio.timeout(TCP_SECONDS):
            reader, writer = await self._open_stream(server)
            try:
                self._counters.tcp_queries += 1
                writer.write(len(query).to_bytes(2, "big") + query)
                size = int.from_bytes(await reader.readexactly(2), "big")
                if size > wire.TCP_SIZE:
                    raise wire.BadMessage("malformed", "longer than any answer")
                data = await reader.readexactly(size)
                response = wire.read_response(data, number=number, name=name, rdtype=rdtype)
                if response.truncated:
                    raise wire.BadMessage("malformed", "truncated by TCP")
            except EOFError:
                raise ConnectionResetError(errno.ECONNRESET, "the server closed before its answer") from None
            except wire.BadMessage as error:
                # A connection is with the server itself: no other host can answer.
                _count(self._counters, error)
                raise ConnectionAbortedError(errno.ECONNABORTED, f"the server answered by TCP: {error}") from None
            finally:
                writer.transport.abort()
        return response


class _Waiter(asyncio.DatagramProtocol):
    """Waits for the answer to one question, and for nothing else that may come."""

    def __init__(self, server: Server, read: Callable[[bytes], wire.Response], counters: Counters) -> None:
        self.answer: asyncio.Future[wire.Response] = asyncio.get_running_loop().create_future()
        self._server = _without_scope(server[0]), server[1]
        self._read = read
        self._counters = counters
        self._patience = BAD_ANSWERS

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.answer.done() or self._patience == 0:
            return
        if (_without_scope(addr[0]), addr[1]) != self._server:
            self._counters.strangers += 1
            return
        if len(data) > wire.UDP_SIZE:
            self._counters.malformed += 1
            return
        try:
            response = self._read(bytes(data))
        except wire.BadMessage as error:
            _count(self._counters, error)
            self._patience -= error.cause == "malformed"
            return
        self.answer.set_result(response)

    def error_received(self, exc: Exception) -> None:
        self._fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionAbortedError(errno.ECONNABORTED, "the socket was closed"))

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # no caller may be waiting any more


def _count(counters: Counters, error: wire.BadMessage) -> None:
    if error.cause == "unasked":
        counters.unasked += 1
    else:
        counters.malformed += 1


def _without_scope(host: str) -> int:
    """Return an address as a number; its scope is left out, which the socket has."""
    return int(ip_address(host.partition("%")[0]))
