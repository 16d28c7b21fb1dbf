"""Links over datagrams: both ends are ours or sockets of this process. Real machines are in tests/interop."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tcpip_wasm.links import DatagramLink, accept_vfkit, bind_datagrams, connect_bess, listen_bess
from tcpip_wasm.testing import MemoryInterface
from tests.kit.core_network import payload
from tests.kit.stacks import until
from tests.links.test_stream import BOUND, transfer, two_stacks


def free_port() -> int:
    """Return a port of UDP that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("kind", ["unix", "udp"])
def test_two_stacks_over_datagrams(kind: str, tmp_path: Path) -> None:
    """The second end comes later: what was sent before is lost, and nothing else."""

    async def main() -> None:
        if kind == "unix":
            one, other = f"unix:{tmp_path / 'a'}", f"unix:{tmp_path / 'b'}"
        else:
            one, other = (f"udp:127.0.0.1:{free_port()}" for _ in range(2))
        async with two_stacks() as (a, near, b, far):
            link = await bind_datagrams(near, one, other)
            await until(lambda: link.counters.send_dropped + link.counters.frames_sent > 0)
            back = await bind_datagrams(far, other, one)
            await transfer(a, b, 1_000_000)
            await transfer(b, a, 1_000_000, "fd00::1")
            assert not link.closed
            link.close()
            back.close()

    asyncio.run(main())
    assert not list(tmp_path.iterdir()), "the sockets' files are removed"


def test_two_stacks_over_a_seqpacket_socket(tmp_path: Path) -> None:
    async def main() -> None:
        async with two_stacks() as (a, near, b, far):
            async with await listen_bess(f"unix:{tmp_path / 'bess'}", lambda: far) as listener:
                link = await connect_bess(near, listener.address)
                await transfer(a, b, 1_000_000)
                await transfer(b, a, 1_000_000, "fd00::1")
                near_end = link.counters
                assert near_end.frames_received == listener.links[0].counters.frames_sent
            await asyncio.wait_for(link.wait_closed(), BOUND)

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("greeting", [b"VFKT", b""], ids=["greeting", "frame first"])
def test_the_first_datagram_of_a_machine_names_it(greeting: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        interface = MemoryInterface()
        path = tmp_path / "net"
        waiting = asyncio.create_task(accept_vfkit(interface, f"unix:{path}"))
        await until(lambda: os.path.exists(path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as machine:
            machine.bind(str(tmp_path / "machine"))
            machine.settimeout(BOUND)
            frames = [payload(size, size) for size in (14, 60, 1514)]
            for data in ([greeting] if greeting else []) + frames:
                machine.sendto(data, str(path))
            link = await asyncio.wait_for(waiting, BOUND)
            await until(lambda: len(interface.received) == len(frames))
            assert list(interface.received) == frames
            interface.send(*frames)
            assert [machine.recv(4096) for _ in frames] == frames
            link.close()
        assert not path.exists()

    asyncio.run(main())


def test_a_cancelled_wait_removes_the_socket(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "net"
        waiting = asyncio.create_task(accept_vfkit(MemoryInterface(), f"unix:{path}"))
        await until(lambda: os.path.exists(path))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not path.exists()

    asyncio.run(main())


def test_ends_of_different_kinds_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=r"remote: unix:PATH is needed, not 'udp:127\.0\.0\.1:1'"):
            await bind_datagrams(MemoryInterface(), "unix:x", "udp:127.0.0.1:1")
        with pytest.raises(ValueError, match="local: "):
            await bind_datagrams(MemoryInterface(), "tcp:127.0.0.1:1", "tcp:127.0.0.1:1")

    asyncio.run(main())


class _Full(NamedTuple):
    link: DatagramLink
    interface: MemoryInterface
    peer: socket.socket


@asynccontextmanager
async def _full_peer(folder: Path, frames: list[bytes], *, connected: bool) -> AsyncIterator[_Full]:
    """Yield a link, and a peer that has not read what fills its queue or, where it is connected, the link's buffer."""
    interface = MemoryInterface("tap")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(folder / "peer"))
        peer.setblocking(False)
        link = await bind_datagrams(interface, f"unix:{folder / 'link'}", f"unix:{folder / 'peer'}")
        if connected:
            peer.connect(str(folder / "link"))
        interface.send(*frames)
        await until(lambda: link.counters.send_waits > 0)
        for _ in range(100):
            await asyncio.sleep(0)
        yield _Full(link, interface, peer)
        link.close()


FRAMES = [payload(1514, number) for number in range(2_000)]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems report a full queue in other ways")
@pytest.mark.parametrize("connected", [False, True])
def test_a_peer_that_does_not_read_is_waited_for(connected: bool, tmp_path: Path) -> None:
    """The loop does not try again and again; when the peer reads, all frames come in order."""

    async def main() -> None:
        async with _full_peer(tmp_path, FRAMES, connected=connected) as (link, _, peer):
            assert link.counters.send_waits == 1
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(BOUND):
                arrived = [await loop.sock_recv(peer, 2_000) for _ in FRAMES]
            assert arrived == FRAMES
            assert link.counters.frames_sent == len(FRAMES)

    asyncio.run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems report a full queue in other ways")
def test_a_peer_that_goes_while_it_is_waited_for(tmp_path: Path) -> None:
    """What waited is lost, and the link carries to the peer's successor."""

    async def main() -> None:
        async with _full_peer(tmp_path, FRAMES, connected=False) as (link, interface, peer):
            sent = link.counters.frames_sent
            peer.close()
            await until(lambda: link.counters.send_dropped == len(FRAMES) - sent)
            assert not link.closed
            (tmp_path / "peer").unlink()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as successor:
                successor.bind(str(tmp_path / "peer"))
                successor.settimeout(BOUND)
                interface.send(FRAMES[0])
                assert successor.recv(2_000) == FRAMES[0]

    asyncio.run(main())
