"""What tests of Wisp with other implementations have in common: servers to which streams lead, and bulk data.

The streams' payload is checked by SHA-256. The tests are in `test_wisp_clients` and `test_wisp_servers`.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from tests.kit.core_network import payload

__all__ = [
    "ACKNOWLEDGED",
    "BLOCK",
    "KERNEL_BUFFERS",
    "MIB",
    "PEERS",
    "SECONDS",
    "SIZE",
    "STREAMS",
    "Exchange",
    "echo",
    "read_digest",
    "write_blocks",
]

PEERS = Path(__file__).resolve().parents[2] / "js" / "tests" / "peers"
"""The folder of the programs that are peers."""

MIB = 1 << 20
STREAMS = 8
SIZE = MIB
SECONDS = 120.0
"""Time limit of a test."""

BLOCK = payload(MIB, 6)
"""What bulk transfers repeat."""

KERNEL_BUFFERS = sum(int(Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text().split()[2]) for name in ("rmem", "wmem"))
"""Bytes that the kernel holds for a connection at most, in both directions' buffers."""

ACKNOWLEDGED = b"all is here"


class Exchange:
    """A server that sends `SIZE` bytes while it receives as many, and then `ACKNOWLEDGED`, since a CLOSE may overtake
    what a Wisp server has not sent yet. It keeps the SHA-256 of what each connection carried.
    """

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.received: list[str] = []
        self.ended = asyncio.Semaphore(0)

    async def wait(self) -> None:
        """Wait until `STREAMS` connections have ended."""
        for _ in range(STREAMS):
            await self.ended.acquire()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = payload(SIZE, len(self.sent) + 1)
        self.sent.append(hashlib.sha256(data + ACKNOWLEDGED).hexdigest())

        async def send() -> None:
            writer.write(data)
            await writer.drain()

        sending = asyncio.create_task(send())
        self.received.append(hashlib.sha256(await reader.readexactly(SIZE)).hexdigest())
        await sending
        writer.write(ACKNOWLEDGED)
        assert await reader.read() == b""
        writer.close()
        self.ended.release()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def write_blocks(writer: asyncio.StreamWriter, count: int, written: list[int]) -> str:
    """Write `BLOCK` so many times, and return the SHA-256 of it all.

    Args:
        writer: of the stream; it stays open.
        count: how many blocks.
        written: its only number grows by the bytes that were taken.
    """
    digest = hashlib.sha256()
    for _ in range(count):
        for first in range(0, MIB, 65536):
            writer.write(BLOCK[first : first + 65536])
            await writer.drain()
            written[0] += 65536
        digest.update(BLOCK)
    return digest.hexdigest()


async def read_digest(reader: asyncio.StreamReader, size: int) -> str:
    """Read so many bytes, and return their SHA-256."""
    digest, left = hashlib.sha256(), size
    while left:
        data = await reader.read(min(left, 1 << 18))
        assert data, f"the stream ended {left} bytes before its end"
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()
