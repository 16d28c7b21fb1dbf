"""The base of links, with transports that hand frames over: flow control, bounds, counters, the end.

Those that are read, devices and sockets, are tested in tests/interop/test_links.py against the kernel.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque

import pytest

from tcpip_wasm import StackClosedError, TunInterface, create_stack
from tcpip_wasm.links import FrameInterface, Link
from tcpip_wasm.links.link import QUEUE_BYTES
from tcpip_wasm.testing import MemoryInterface
from tests.kit.core_network import payload
from tests.kit.stacks import read_all, run, send_all, until

MTU = 1500


class MessageLink(Link):
    """One end of a transport that carries messages, such as a WebSocket, and holds a few of them at most.

    Attributes:
        far: the other end.
        held: messages that the far end's program has not read.
        room: how many it holds at most.
        reading: whether its program reads.
    """

    def __init__(self, interface: FrameInterface, *, room: int = 8, flow_control: bool = True) -> None:
        super().__init__(interface, max_frame=MTU)
        type(self).has_flow_control = flow_control
        self.far = self
        self.held: deque[bytes] = deque()
        self.room = room
        self.reading = True
        self.released = 0
        self._watched = False
        self.begin()

    def send(self, frame: memoryview, /) -> None:
        if len(self.held) >= self.room:
            raise BlockingIOError
        self.held.append(bytes(frame))
        self._loop.call_soon(self.far.arrive)

    def watch_writable(self) -> None:
        self._watched = True

    def arrive(self) -> None:
        """Read what the other end has sent, as far as this one wants it."""
        while self.reading and self.far.held:
            self.deliver(self.far.held.popleft())
        if self.far._watched and not self.far.held:
            self.far._watched = False
            self._loop.call_soon(self.far.resume)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.arrive()

    def release(self) -> None:
        self.released += 1


def test_a_transfer_crosses_a_transport_that_holds_eight_frames() -> None:
    """Nothing is lost, though the stacks offer far more than the transport takes at once."""

    async def main() -> None:
        data = payload(3_000_000)
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            near = await a.create_tun_interface(ip="10.0.0.1/24")
            far = await b.create_tun_interface(ip="10.0.0.2/24")
            one, other = MessageLink(near), MessageLink(far)
            one.far, other.far = other, one
            async with await b.listen_tcp(7) as listener:
                client = await a.connect_tcp("10.0.0.2", 7)
                server = await listener.accept()
                _, received = await asyncio.gather(send_all(client, data), read_all(server))
                await client.close()
                await server.close()
            assert received == data
            assert one.counters.send_waits > 0
            await until(lambda: one.counters.frames_sent == other.counters.frames_received)
            assert one.counters.frames_sent > 2000
            assert one.counters.bytes_sent == other.counters.bytes_received > len(data)
            for link in (one, other):
                assert link.counters.send_dropped == link.counters.receive_dropped == 0
                link.close()

    run(main())


@pytest.mark.parametrize("flow_control", [False, True], ids=["without flow control", "with flow control"])
def test_what_a_full_stack_does_not_take_waits_within_a_bound(flow_control: bool) -> None:
    async def main() -> None:
        interface = MemoryInterface("tun", MTU)
        link = MessageLink(interface, flow_control=flow_control)
        interface.full = True
        frames = [payload(1000, salt) for salt in range(600)]
        for frame in frames:
            link.deliver(frame)
        assert not interface.received
        assert not link.reading, "the first frame that waits stops a transport that can be stopped"
        kept = QUEUE_BYTES // 1004
        dropped = 0 if flow_control else len(frames) - kept
        assert link.counters.receive_dropped == dropped
        interface.make_room()
        assert list(interface.received) == frames[: len(frames) - dropped]
        assert link.reading
        assert link.counters.frames_received == len(frames) - dropped
        link.deliver(b"x" * (MTU + 1))
        assert link.counters.receive_truncated == 1
        link.close()

    run(main())


def test_a_transport_that_fails_ends_the_link_and_frees_the_interface() -> None:
    async def main() -> None:
        interface = MemoryInterface("tun", MTU)
        link = MessageLink(interface)
        interface.full = True
        link.deliver(b"waits")
        link.end(ConnectionResetError(errno.ECONNRESET, "the relay is gone"))
        await link.wait_closed()
        assert isinstance(link.error, ConnectionResetError)
        assert link.released == 1
        assert interface.port is None
        interface.make_room()
        link.deliver(b"too late")
        link.close()
        assert not interface.received
        assert link.released == 1
        assert isinstance(link.error, ConnectionResetError), "the first reason stays"

    run(main())


def test_the_end_of_the_stack_ends_the_link() -> None:
    async def main() -> None:
        stack = await create_stack(seed=1)
        tun: TunInterface = await stack.create_tun_interface(ip="10.0.0.1/24")
        link = MessageLink(tun)
        with pytest.raises(OSError, match="listener"):
            MessageLink(tun)
        await stack.aclose()
        await until(lambda: link.closed)
        assert isinstance(link.error, StackClosedError)
        assert link.transmit(memoryview(b"\x04\0\0\0abcd")) == 8, "what is still offered is dropped"

    run(main())
