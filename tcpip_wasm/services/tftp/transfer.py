"""One transfer of a TFTP server: blocks of a file to or from one client, in windows (RFC 7440).

Owns what is sent again and when a transfer is given up. A duplicate acknowledgement causes nothing to be sent, so that
two ends never double each other's packets (RFC 1123, section 4.2.3.1). Files are read in threads of the loop's
executor.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from tcpip_wasm.services.tftp import wire
from tcpip_wasm.sockets import UdpDatagram, UdpSocket

FIRST_TIMEOUT: Final = 1.0
"""Seconds until a packet is sent again, doubled each time, unless the client asked for another time."""

ATTEMPTS: Final = 6
"""Times that a packet is sent before a client is taken to be gone."""

CHUNK: Final = 256 * 1024
"""Bytes that are read from or written to a file at once."""

DALLY: Final = 3.0
"""Seconds for which the end of a file from a client is acknowledged again."""

MAX_TEXT: Final = 16 * 1024 * 1024
"""Bytes of a file that is sent as netascii, which is converted in memory."""


class TransferError(Exception):
    """A transfer failed.

    Attributes:
        code: to send to the client, or None for nothing.
    """

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(text)
        self.code = code


class Transfer:
    """A transfer.

    Args:
        udp: a socket whose only peer is the client.
        client: its (host, port).
        agreed: the options.

    Attributes:
        count: bytes of the file that have moved.
        resent: times that packets were sent again.
    """

    def __init__(self, udp: UdpSocket, client: tuple[Any, ...], agreed: wire.Agreement) -> None:
        self.count: int = 0
        self.resent: int = 0
        self._udp = udp
        self._client = client
        self._agreed = agreed
        self._last = b""

    async def _send(self, packet: bytes) -> None:
        await self._udp.send(UdpDatagram(self._client[0], self._client[1], packet))

    async def _receive(self, fits: Callable[[wire.Packet], bool], again: list[bytes]) -> wire.Packet:
        """Return the client's next packet that fits; meanwhile send packets again.

        Raises:
            TransferError: the client ended the transfer, or does not answer.
        """
        seconds = self._agreed.timeout or FIRST_TIMEOUT
        for _ in range(ATTEMPTS):
            try:
                async with asyncio.timeout(seconds):
                    while True:
                        packet = self._parse((await self._udp.receive()).data)
                        if packet is not None and fits(packet):
                            return packet
            except TimeoutError:
                self.resent += 1
                for one in again:
                    await self._send(one)
                if self._agreed.timeout is None:
                    seconds *= 2
            except ConnectionRefusedError:
                raise TransferError(None, "the client's port is closed") from None
        raise TransferError(wire.UNDEFINED, "no answer")

    def _parse(self, data: bytes) -> wire.Packet | None:
        try:
            packet = wire.parse(data)
        except wire.BadPacket:
            return None
        if isinstance(packet, wire.Error):
            raise TransferError(None, f"the client ended it: {packet.code} {packet.text!r}")
        return packet

    # --- To the client --------------------------------------------------------------------------------------------

    async def send_file(self, read: Callable[[int, int], bytes]) -> None:
        """Send a file.

        Args:
            read: returns so many bytes from an offset on; fewer at the end of the file. It is called in a thread.

        Raises:
            TransferError, OSError: see `TransferError`; the file cannot be read.
        """
        if self._agreed.accepted:
            options = wire.build_oack(self._agreed.accepted)
            await self._send(options)
            await self._receive(lambda packet: isinstance(packet, wire.Ack) and packet.block == 0, [options])
        size, window = self._agreed.block_size, self._agreed.window
        acknowledged = 0  # blocks, not modulo 65,536
        ahead, begin, is_all = b"", 0, False
        while True:
            at = acknowledged * size - begin
            if at + window * size > len(ahead) and not is_all:
                ahead, begin, at = await asyncio.to_thread(read, at + begin, CHUNK + window * size), at + begin, 0
                is_all = len(ahead) < CHUNK + window * size
            content = ahead[at : at + window * size]
            blocks = [content[at : at + size] for at in range(0, len(content), size)]
            has_end = len(content) < window * size
            if has_end and len(content) % size == 0:
                blocks.append(b"")  # the last block is shorter than the others
            packets = [wire.build_data(acknowledged + 1 + at, block) for at, block in enumerate(blocks)]
            for packet in packets:
                await self._send(packet)
            base, most = acknowledged & 0xFFFF, len(blocks)
            answer = await self._receive(
                lambda packet, base=base, most=most: (  # type: ignore[misc]
                    isinstance(packet, wire.Ack) and 0 < wire.distance(base, packet.block) <= most
                ),
                packets,
            )
            assert isinstance(answer, wire.Ack)
            arrived = wire.distance(base, answer.block)
            acknowledged += arrived
            self.count += sum(map(len, blocks[:arrived]))
            if has_end and arrived == len(blocks):
                return

    # --- From the client ------------------------------------------------------------------------------------------

    async def receive_file(self, write: Callable[[bytes], None], most: int) -> None:
        """Receive a file.

        Args:
            write: appends bytes to the file. It is called in a thread.
            most: bytes of the file at most.

        Raises:
            TransferError, OSError: see `TransferError`; the file cannot be written.
        """
        last = wire.build_oack(self._agreed.accepted) if self._agreed.accepted else wire.build_ack(0)
        await self._send(last)
        size, window = self._agreed.block_size, self._agreed.window
        number = in_window = 0
        waiting = bytearray()
        while True:
            packet = await self._receive(lambda one: isinstance(one, wire.Data) and len(one.content) <= size, [last])
            assert isinstance(packet, wire.Data)
            if packet.block != (number + 1) & 0xFFFF:
                # A gap, or a block that came again: what arrived last is acknowledged, once for each window.
                if in_window or wire.distance(number, packet.block) < window:
                    in_window = 0
                    await self._send(last := wire.build_ack(number))
                continue
            number = (number + 1) & 0xFFFF
            in_window += 1
            self.count += len(packet.content)
            if self.count > most:
                raise TransferError(wire.FULL, "the file is too long")
            is_end = len(packet.content) < size
            waiting += packet.content
            if is_end or len(waiting) >= CHUNK:  # before the end is acknowledged
                await asyncio.to_thread(write, bytes(waiting))
                waiting.clear()
            last = wire.build_ack(number)
            if is_end or in_window >= window:
                in_window = 0
                await self._send(last)
            if is_end:
                self._last = last
                return

    async def dally(self) -> None:
        """Answer to the last block for a while, in case its acknowledgement was lost (RFC 1350, section 6)."""
        try:
            async with asyncio.timeout(DALLY):
                while True:
                    if isinstance(self._parse((await self._udp.receive()).data), wire.Data):
                        await self._send(self._last)
        except (TimeoutError, TransferError, OSError):
            return


def reader_of(descriptor: int, netascii: bool) -> Callable[[int, int], bytes]:
    """Return a function that reads a file, as `Transfer.send_file` wants it.

    Raises:
        TransferError: a text that is too long to be converted.
    """
    if not netascii:

        def read(offset: int, count: int) -> bytes:
            os.lseek(descriptor, offset, os.SEEK_SET)
            parts = b""
            while len(parts) < count and (part := os.read(descriptor, count - len(parts))):
                parts += part
            return parts

        return read
    if os.fstat(descriptor).st_size > MAX_TEXT:
        raise TransferError(wire.ILLEGAL, "too long for netascii")
    text = wire.to_netascii(os.read(descriptor, MAX_TEXT))
    return lambda offset, count: text[offset : offset + count]
