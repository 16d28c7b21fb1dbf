"""UDP sockets that a program creates itself and passes to the loop, inside `polyfill`."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from tests.kit.core_network import payload
from tests.kit.stacks import Pair, iterations, pair, run, until


class Upper(asyncio.DatagramProtocol):
    """Answers in capital letters."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.got: list[Any] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append((data, addr))
        if data.islower():
            self.transport.sendto(data.upper(), addr)


def udp(way: str = "tap4") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if way.endswith("6") else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


def handles(two: Pair) -> int:
    return int(two.a.stats().core.handles)


@pytest.mark.parametrize("way", ["tap4", "tap6"])
def test_send_and_receive(way: str) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with pair(way) as two:
            await two.b.create_datagram_endpoint(Upper, local_addr=(two.host, 53))
            two.a.hosts["far"] = two.host
            before = handles(two)
            with two.a.polyfill(), udp(way) as sock:
                assert await loop.sock_sendto(sock, b"one", (two.host, 53)) == 3
                data, source = await loop.sock_recvfrom(sock, 100)
                assert (data, source[:2]) == (b"ONE", (two.host, 53))
                assert sock.getsockname()[1] > 0
                await loop.sock_sendto(sock, b"a name", ("far", 53))
                buffer = bytearray(4)
                assert (await loop.sock_recvfrom_into(sock, buffer))[0] == 4
                assert buffer == b"A NA"
                with pytest.raises(OSError, match=r"."):
                    sock.getpeername()
                waiting = asyncio.create_task(loop.sock_recvfrom(sock, 1))
                await iterations(3)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                await loop.sock_sendto(sock, b"after", (two.host, 53))
                assert (await loop.sock_recvfrom(sock, 100))[0] == b"AFTER"
                await loop.sock_connect(sock, (two.host, 53))
                await loop.sock_sendall(sock, b"connected")
                assert await loop.sock_recv(sock, 100) == b"CONNECTED"
                assert sock.getpeername()[:2] == (two.host, 53)
            await until(lambda: handles(two) == before)

    run(main())


def test_a_bound_socket_serves() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with pair("tap4") as two:
            with two.b.polyfill(), udp() as sock:
                sock.bind(("0.0.0.0", 0))
                port = sock.getsockname()[1]
                receiving = asyncio.create_task(loop.sock_recvfrom(sock, 100))
                await iterations(3)
                client, protocol = await two.a.create_datagram_endpoint(Upper, remote_addr=(two.host, port))
                client.sendto(b"QUESTION")
                data, source = await receiving
                assert data == b"QUESTION"
                await loop.sock_sendto(sock, b"ANSWER", source)
                await until(lambda: protocol.got == [(b"ANSWER", (two.host, port))])
                client.close()

    run(main())


@pytest.mark.parametrize("how", ["fresh", "bound", "used"])
def test_an_endpoint_over_a_socket(how: str) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with pair("tap4") as two:
            _, far = await two.b.create_datagram_endpoint(Upper, local_addr=(two.host, 53))
            before = handles(two)
            with two.a.polyfill():
                sock = udp()
                if how == "bound":
                    sock.bind(("0.0.0.0", 0))
                own = sock.getsockname()[1]
                if how == "used":
                    await loop.sock_sendto(sock, b"early", (two.host, 53))
                    await until(lambda: len(far.got) == 1)
                    await iterations(20)
                transport, protocol = await loop.create_datagram_endpoint(Upper, sock=sock)
                assert sock.fileno() == -1
                if how == "used":
                    assert protocol.got == [(b"EARLY", (two.host, 53))], "it waited for a receiver"
                if how == "bound":
                    assert transport.get_extra_info("sockname")[1] == own
                transport.sendto(b"late", (two.host, 53))
                await until(lambda: protocol.got[-1:] == [(b"LATE", (two.host, 53))])
                transport.close()
            await until(lambda: handles(two) == before)

    run(main())


def test_datagrams_to_other_destinations_use_the_machines_network() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with pair("tap4") as two:
            with two.a.polyfill(route=["10.0.0.0/8"]), udp() as one, udp() as other:
                one.bind(("127.0.0.1", 0))
                other.bind(("127.0.0.1", 0))
                one.sendto(b"the kernel's", other.getsockname())
                if hasattr(asyncio.BaseEventLoop, "sock_recvfrom"):
                    transport, protocol = await loop.create_datagram_endpoint(Upper, sock=other)
                    await until(lambda: protocol.got == [(b"the kernel's", one.getsockname())])
                    transport.close()

    run(main())


def test_errors_and_bounds() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with pair("tap4") as two:
            sender, _ = await two.b.create_datagram_endpoint(Upper, local_addr=(two.host, 53))
            before = handles(two)
            with two.a.polyfill():
                with udp() as sock:
                    await loop.sock_connect(sock, (two.host, 9))
                    await loop.sock_sendall(sock, b"nobody there")
                    with pytest.raises(ConnectionRefusedError):
                        await loop.sock_recv(sock, 10)
                with udp() as sock:
                    with pytest.raises(OSError) as caught:  # noqa: PT011
                        await loop.sock_sendto(sock, b"x", ("192.0.2.1", 9))
                    assert caught.value.errno == errno.ENETUNREACH
                with udp() as sock:
                    sock.bind(("0.0.0.0", 0))
                    await loop.sock_sendto(sock, b"HERE", (two.host, 53))
                    for number in range(40):
                        sender.sendto(payload(50_000, number), (two.own, sock.getsockname()[1]))
                        await iterations(5)
                    end = _end_of(two, sock)
                    await until(lambda: end._arrived.size > 900_000)
                    await iterations(50)
                    assert end._arrived.size <= 1 << 20
                    assert (await loop.sock_recvfrom(sock, 60_000))[0] == payload(50_000, 0)
                with udp() as blocking:
                    blocking.setblocking(True)
                    with pytest.raises(ValueError, match="non-blocking"):
                        await loop.sock_sendto(blocking, b"x", (two.host, 53))
                sock = udp()
                await loop.sock_sendto(sock, b"x", (two.host, 53))
            await until(lambda: handles(two) == before)  # what it stood for has ended with the block
            sock.close()

    run(main())


def _end_of(two: Pair, sock: socket.socket) -> Any:
    from tcpip_wasm.compat.loop.polyfill import _active

    return _active[asyncio.get_running_loop()][-1]._caller_sockets.find(sock)
