"""Servers that send back what they received, in reverse: `reverse_stream` for TCP, `Reverser` for UDP."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

__all__ = ["Reverser", "exchange", "reverse_stream"]


class Reverser(asyncio.DatagramProtocol):
    """Answers each datagram."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data[::-1], addr)


async def reverse_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer when the other side has shut its direction, and close."""
    data = await reader.read()
    writer.write(data[::-1])
    writer.close()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes, *, half_close: bool = True
) -> None:
    """Send data to a server that sends it back in reverse, and check what comes back.

    Args:
        reader, writer: of a new connection, which is closed.
        data: to be sent.
        half_close: whether to shut the own direction after it, as `reverse_stream` expects.

    Raises:
        AssertionError: something else came back.
    """
    answer = asyncio.create_task(reader.read())
    writer.write(data)
    if half_close:
        writer.write_eof()
    assert hashlib.sha256(await answer).digest() == hashlib.sha256(data[::-1]).digest()
    writer.close()
    await writer.wait_closed()
