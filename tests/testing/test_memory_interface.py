"""`MemoryInterface` and `check_port`: they accept correct ports and links, and detect broken ones."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tcpip_wasm.engine import split_records
from tcpip_wasm.links import DatagramSocketLink
from tcpip_wasm.testing import MemoryInterface, check_port, pack_records


class Recorder:
    """A port that records frames."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.detachments = 0

    def transmit(self, records: memoryview, /) -> int:
        self.frames += [bytes(frame) for frame in split_records(records)]
        return len(records)

    def detached(self, error: Exception | None, /) -> None:
        self.detachments += 1


@pytest.mark.parametrize("kind", ["tap", "tun"])
def test_a_port_that_accepts_whole_records_passes(kind: str) -> None:
    port = Recorder()
    check_port(lambda interface: interface.attach(port), kind=kind)
    assert len(port.frames) == 5 + 64
    assert port.detachments == 1


def test_a_link_passes() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            check_port(lambda interface: DatagramSocketLink(ours, interface))
            assert theirs.recv(4096) == bytes([14]) * 14

    asyncio.run(main())


def test_a_part_of_a_record_is_detected() -> None:
    class Partial(Recorder):
        def transmit(self, records: memoryview, /) -> int:
            return super().transmit(records) - 2

    with pytest.raises(AssertionError, match="not the end of a record"):
        check_port(lambda interface: interface.attach(Partial()))


def test_a_port_that_is_not_attached_is_detected() -> None:
    with pytest.raises(AssertionError, match="no port was attached"):
        check_port(lambda interface: None)


def test_views_that_a_port_keeps_are_overwritten() -> None:
    class Keeper(Recorder):
        def transmit(self, records: memoryview, /) -> int:
            self.view = records
            return len(records)

    port, interface = Keeper(), MemoryInterface()
    interface.attach(port)
    interface.send(b"a frame of an interface")
    assert bytes(port.view) == b"\xff" * len(port.view)


def test_backpressure_keeps_the_records_that_were_not_accepted() -> None:
    class Slow(Recorder):
        def transmit(self, records: memoryview, /) -> int:
            first = next(split_records(records))
            self.frames.append(bytes(first))
            return len(pack_records(bytes(first)))

    port, interface = Slow(), MemoryInterface()
    interface.attach(port)
    interface.send(b"one", b"four", b"seven")
    assert interface.unsent == len(pack_records(b"four", b"seven"))
    interface.resume_transmit()
    interface.resume_transmit()
    assert port.frames == [b"one", b"four", b"seven"]
    assert (interface.unsent, interface.resumed) == (0, 2)


def test_received_frames() -> None:
    interface = MemoryInterface(buffer=64)
    records = pack_records(b"one", b"four")
    view = interface.receive_buffer()
    view[: len(records)] = records
    interface.commit_received(len(records))
    assert list(interface.received) == [b"one", b"four"]
    with pytest.raises(ValueError, match="released"):
        view[0]
    interface.full = True
    assert len(interface.receive_buffer()) == 0
