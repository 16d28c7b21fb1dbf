"""Cables: the interfaces that they connect and refuse, and closing them."""

from __future__ import annotations

import asyncio
import errno
import threading
from typing import Any

import pytest

from tcpip_wasm import NetworkError, NetworkStack, TcpipError, connect, create_stack
from tests.kit.core_network import payload
from tests.kit.stacks import iterations, pair, read_all, run, send_all


def test_interfaces_that_a_cable_cannot_connect() -> None:
    async def main() -> None:
        async with await create_stack() as a, await create_stack() as b:
            tap, tun = await a.create_tap_interface(), await a.create_tun_interface()
            other = await b.create_tap_interface()
            with pytest.raises(TypeError, match="LoopbackInterface"):
                connect(tap, a.interfaces[0])  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="NoneType"):
                connect(None, tap)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="two taps or two tuns"):
                connect(tap, tun)
            with pytest.raises(ValueError, match="two taps or two tuns"):
                connect(tun, other)
            with pytest.raises(ValueError, match="itself"):
                connect(tap, tap)
            assert not any((tap.attached, tun.attached, other.attached))

    run(main())


def test_one_cable_per_interface() -> None:
    async def main() -> None:
        async with await create_stack() as a, await create_stack() as b:
            one, two = await a.create_tap_interface(), await a.create_tap_interface()
            other = await b.create_tap_interface()
            cable = connect(one, other)
            for ends in ((one, two), (two, one), (two, other), (other, two)):
                with pytest.raises(NetworkError) as caught:
                    connect(*ends)
                assert caught.value.errno == errno.EBUSY
                assert isinstance(caught.value, TcpipError)
                assert not two.attached, "a failed connect leaves the free end free"
            cable.close()
            connect(two, other).close()

    run(main())


def test_cable_and_stream_exclude_each_other() -> None:
    async def main() -> None:
        async with await create_stack() as a, await create_stack() as b:
            tap, other = await a.create_tap_interface(), await b.create_tap_interface()
            readable = tap.readable
            with pytest.raises(NetworkError) as caught:
                connect(tap, other)
            assert caught.value.errno == errno.EBUSY
            await readable.cancel()
            with connect_for(tap, other), pytest.raises(NetworkError) as caught:
                other.listen()
            assert caught.value.errno == errno.EBUSY

    run(main())


class connect_for:
    """A cable in a `with` block."""

    def __init__(self, *ends: Any) -> None:
        self.cable = connect(*ends)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.cable.close()


def test_interfaces_of_one_stack() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            one = await stack.create_tap_interface(ip="10.0.0.1/24")
            other = await stack.create_tap_interface(ip="10.0.1.1/24")
            connect(one, other)
            async with await stack.listen_tcp(80) as listener:
                client = await stack.connect_tcp("10.0.1.1", 80)
                server = await listener.accept()
                await send_all(client, b"to itself")
                assert await read_all(server) == b"to itself"

    run(main())


def test_stacks_of_different_loops() -> None:
    result: list[BaseException | None] = [None]

    async def main() -> None:
        async with await create_stack() as a:
            tap = await a.create_tap_interface()

            async def elsewhere() -> None:
                async with await create_stack() as b:
                    other = await b.create_tap_interface()
                    try:
                        connect(tap, other)
                    except ValueError as error:
                        result[0] = error

            thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
            thread.start()
            await asyncio.to_thread(thread.join)
            assert "different event loops" in str(result[0])
            assert not tap.attached

    run(main())


def test_closed_and_connected_again() -> None:
    """Segments that were sent in the meantime are lost, and TCP retransmits them."""

    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            reader, writer = server.readable.get_reader(), client.writable.get_writer()
            await writer.write(b"before ")
            assert await reader.read() == b"before "
            assert two.cable is not None
            two.cable.close()
            two.cable.close()
            assert two.cable.closed
            await writer.write(b"meanwhile ")
            await iterations(20)
            assert two.interfaces[0].statistics().unheard > 0
            connect(*two.interfaces)
            assert await reader.read() == b"meanwhile "
            await writer.write(b"after")
            assert await reader.read() == b"after"
            assert two.a.stats().core.tcp_retransmissions > 0

    run(main())


def test_closed_in_the_middle_of_a_transfer() -> None:
    async def main() -> None:
        async with pair() as two:
            client, server = await two.connections()
            data = payload(3_000_000)
            sending = asyncio.create_task(send_all(client, data))
            received = bytearray()
            pulls = 0
            async for chunk in server:
                received += chunk
                if len(received) > (pulls + 1) * 700_000:
                    assert two.cable is not None
                    two.cable.close()
                    await iterations(20)
                    two.cable = connect(*two.interfaces)
                    pulls += 1
            assert received == data
            assert pulls >= 3
            await sending

    run(main())


@pytest.mark.parametrize("way", ["tap4", "tun4"])
def test_slow_reader_does_not_stop_other_readers(way: str) -> None:
    """Two connections share a cable; one is not read, the other is not affected."""

    async def main() -> None:
        async with pair(way) as two, await two.b.listen_tcp(80) as listener:
            stuck = await two.a.connect_tcp(two.host, 80)
            unread = await listener.accept()
            sending = asyncio.create_task(send_all(stuck, payload(4_000_000, 1)))
            await iterations(200)
            passing = await two.a.connect_tcp(two.host, 80)
            server = await listener.accept()
            other = asyncio.create_task(send_all(passing, payload(4_000_000, 2)))
            assert await read_all(server) == payload(4_000_000, 2)
            await other
            assert not sending.done()
            assert await read_all(unread) == payload(4_000_000, 1)
            await sending

    run(main())


def test_a_chain_of_cables() -> None:
    """Three hosts on two cables; the middle one has a connection to each other one."""

    async def main() -> None:
        stacks = [await create_stack(seed=i) for i in range(3)]
        try:
            ends: list[Any] = []
            for i, stack in enumerate(stacks):
                for network in {max(i, 1), min(i + 1, 2)}:
                    ends.append((network, await stack.create_tun_interface(ip=f"10.0.{network}.{i + 1}/24")))
            for network in (1, 2):
                connect(*[tun for number, tun in ends if number == network])
            await chain(stacks)
        finally:
            for stack in stacks:
                await stack.aclose()

    async def chain(stacks: list[NetworkStack]) -> None:
        async with await stacks[1].listen_tcp(80) as middle, await stacks[2].listen_tcp(80) as last:
            first = await stacks[0].connect_tcp("10.0.1.2", 80)
            near = await middle.accept()
            far = await stacks[1].connect_tcp("10.0.2.3", 80)
            end = await last.accept()
            data = payload(1_000_000)
            async with asyncio.TaskGroup() as group:
                group.create_task(send_all(first, data))
                group.create_task(near.readable.pipe_to(far.writable))
                received = group.create_task(read_all(end))
            assert received.result() == data

    run(main())
