"""Links over datagrams: both ends are ours or sockets of this process. Real machines are in tests/interop."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from tcpip_wasm.links import accept_vfkit, bind_datagrams, connect_bess, listen_bess
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
