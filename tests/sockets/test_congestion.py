"""Which algorithm controls congestion: of a stack, a connection, a socket; Linux's names for it, and its effect."""

from __future__ import annotations

import asyncio
import errno
import socket as real
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.engine import abi
from tests.kit.blocking_sockets import network
from tests.kit.blocking_sockets import pair as sockets
from tests.kit.core_network import payload, two_hosts
from tests.kit.stacks import Recorder, run, until

TCP = real.IPPROTO_TCP
TCP_CONGESTION = getattr(real, "TCP_CONGESTION", 13)

pytestmark = pytest.mark.skipif(not hasattr(real, "TCP_CONGESTION"), reason="the system has no TCP_CONGESTION")


def algorithm(owner: Any) -> str:
    """Return the algorithm of a transport or of a socket, which is in the sixteen bytes in which Linux answers it."""
    sock = owner.get_extra_info("socket") if hasattr(owner, "get_extra_info") else owner
    name: bytes = sock.getsockopt(TCP, TCP_CONGESTION, 16)
    assert len(name) == 16
    return name.rstrip(b"\0").decode()


async def of_protocols(stack: NetworkStack, client: str | None, server: str | None) -> tuple[str, str]:
    """Return the algorithms of both ends of a connection of protocols."""
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(Recorder())
        return accepted[0]

    listener = await stack.create_server(accept, "127.0.0.1", congestion_control=server)
    transport, _ = await stack.create_connection(Recorder, "127.0.0.1", listener.port, congestion_control=client)
    await until(lambda: bool(accepted))
    assert algorithm(listener.sockets[0]) == algorithm(accepted[0].transport)
    names = algorithm(transport), algorithm(accepted[0].transport)
    transport.abort()
    listener.close()
    await accepted[0].lost
    return names


async def of_asyncio_streams(stack: NetworkStack, client: str | None, server: str | None) -> tuple[str, str]:
    """Return the algorithms of both ends of a connection of asyncio's streams."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted.put(writer)

    listener = await stack.start_server(accept, "127.0.0.1", congestion_control=server)
    _, near = await stack.open_connection("127.0.0.1", listener.port, congestion_control=client)
    far = await accepted.get()
    names = algorithm(near.transport), algorithm(far.transport)
    near.transport.abort()
    far.transport.abort()
    listener.close()
    return names


async def of_streams(stack: NetworkStack, client: str | None, server: str | None) -> tuple[str, str]:
    """Return the algorithms of both ends of a connection of this package's streams."""
    async with await stack.listen_tcp(0, "127.0.0.1", congestion_control=server) as listener:
        near = await stack.connect_tcp("127.0.0.1", listener.port, congestion_control=client)
        far = await listener.accept()
    names = algorithm(near._ends.transport), algorithm(far._ends.transport)
    near.abort()
    far.abort()
    return names


@pytest.mark.parametrize("kind", [of_protocols, of_asyncio_streams, of_streams])
@pytest.mark.parametrize(("default", "other"), [("cubic", "reno"), ("reno", "cubic")])
def test_default_of_a_stack_and_of_a_connection(kind: Any, default: str, other: str) -> None:
    async def main() -> None:
        async with await create_stack(congestion_control=default) as stack:
            assert await kind(stack, None, None) == (default, default)
            assert await kind(stack, other, None) == (other, default)
            assert await kind(stack, None, other) == (default, other)

    run(main())


def test_cubic_is_the_default() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            assert await of_protocols(stack, None, None) == ("cubic", "cubic")

    run(main())


@pytest.mark.parametrize("name", ["bbr", "CUBIC", "", 1, b"reno"])
def test_unknown_algorithm(name: Any) -> None:
    wrong = (ValueError, TypeError)

    async def main() -> None:
        with pytest.raises(wrong, match="congestion_control"):
            await create_stack(congestion_control=name)
        async with await create_stack() as stack:
            with pytest.raises(wrong, match="congestion_control"):
                await stack.connect_tcp("127.0.0.1", 1, congestion_control=name)
            with pytest.raises(wrong, match="congestion_control"):
                await stack.listen_tcp(0, congestion_control=name)
            with pytest.raises(wrong, match="congestion_control"):
                await stack.create_server(Recorder, congestion_control=name)

    run(main())


@pytest.mark.parametrize("kind", ["kernel", "stack"])
def test_socket_option(kind: str) -> None:
    """Set before there is a connection, on a connection and on a listener, from which connections inherit it."""
    with network(kind) as net, net.socket() as sock, net.socket(type=real.SOCK_DGRAM) as datagrams:
        sock.setsockopt(TCP, TCP_CONGESTION, b"reno\0\0")
        assert algorithm(sock) == "reno"
        with pytest.raises(OSError) as caught:  # noqa: PT011  its number is compared
            sock.setsockopt(TCP, TCP_CONGESTION, b"no such thing")
        assert caught.value.errno == errno.ENOENT
        assert algorithm(sock) == "reno"
        with pytest.raises(OSError):  # noqa: PT011  ENOPROTOOPT, or EOPNOTSUPP of another level
            datagrams.setsockopt(TCP, TCP_CONGESTION, b"reno")
        with net.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(TCP, TCP_CONGESTION, b"reno")
            sock.connect(listener.getsockname())
            accepted, _ = listener.accept()
        with accepted:
            assert algorithm(accepted) == algorithm(sock) == "reno"
        client, server = sockets(net)
        with client, server:
            client.setsockopt(TCP, TCP_CONGESTION, b"reno")
            assert algorithm(client) == "reno"


def test_socket_of_a_stack_with_another_default() -> None:
    with network("stack") as net:
        client, server = sockets(net)
        with client, server, net.socket() as new:
            assert algorithm(client) == algorithm(server) == algorithm(new) == "cubic"
            new.setsockopt(TCP, TCP_CONGESTION, b"cubic")
            client.setsockopt(TCP, TCP_CONGESTION, b"reno")
            assert (algorithm(client), algorithm(server)) == ("reno", "cubic")


def threshold(value: int) -> int:
    """Return the slow-start threshold in bytes after one loss, which is the same loss for each algorithm."""
    data = 0

    def rule(number: int, frame: bytes) -> list[tuple[float, bytes]]:
        nonlocal data
        data += len(frame) > 1000
        return [] if data == 100 and len(frame) > 1000 else [(0.01, frame)]

    two = two_hosts(rule=rule)
    client, server = two.open()
    core = two.hosts[0].core
    core.tcp_option(client.handle, abi.OPTION_CONGESTION_CONTROL, value)
    client.write(payload(300_000))
    two.run(lambda: core.tcp_information(client.handle)["RECOVERY"] == 1)
    reduced = core.tcp_information(client.handle)["SLOW_START_THRESHOLD"]
    two.run(lambda: len(server.received) == 300_000)
    assert server.received == payload(300_000)
    return reduced


def test_a_loss_reduces_the_window_by_each_algorithms_factor() -> None:
    """RFC 9438, section 4.6: to 0.7; RFC 5681, section 3.1: to half. Both had the same window before."""
    cubic, reno = threshold(0), threshold(1)
    assert cubic / reno == pytest.approx(0.7 / 0.5, rel=0.02)
