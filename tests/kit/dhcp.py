"""A small DHCP server on raw frames of a TAP interface, whose answers the test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from struct import pack

from tcpip_wasm import TapInterface
from tcpip_wasm.engine import dhcp_options

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = range(1, 8)

SERVER_MAC = bytes.fromhex("0200000000fe")
SERVER = IPv4Address("10.0.0.254")
LEASED = IPv4Address("10.0.0.50")


class DhcpServer:
    """Leases one address to every client.

    Attributes:
        seconds: the lease time.
        answers: whether it answers at all.
        refuses: whether it answers requests with NAK.
        seen: the types of the messages that arrived, in order.
        others: IPv4 packets that arrived for other destinations.
        options: bytes of whole options in its answers, in addition to address, mask, router and times.
    """

    def __init__(self, tap: TapInterface) -> None:
        self._frames = tap.readable  # from now on
        self.writer = tap.writable.get_writer()
        self.seconds = 3600
        self.answers = True
        self.refuses = False
        self.seen: list[int] = []
        self.others: list[bytes] = []
        self.options = b"\x06\x04\x0a\x00\x00\x35" + b"\x0f\x0blab.example"

    async def serve(self) -> None:
        """Answer frames until cancelled."""
        async for frame in self._frames:
            kind = frame[12:14]
            if kind == b"\x08\x06" and frame[38:42] == SERVER.packed and frame[20:22] == b"\0\1":
                reply = frame[6:12] + SERVER_MAC + frame[12:20] + b"\0\2" + SERVER_MAC + SERVER.packed + frame[22:32]
                await self.writer.write(reply)
            elif kind == b"\x08\0" and frame[23] == 17 and frame[36:38] == b"\0\x43":
                await self._answer(frame[42:])
            elif kind == b"\x08\0":
                self.others.append(frame)

    async def _answer(self, message: bytes) -> None:
        kind = dhcp_options(message)[53][0]
        self.seen.append(kind)
        if not self.answers or kind not in (DISCOVER, REQUEST):
            return
        reply = OFFER if kind == DISCOVER else NAK if self.refuses else ACK
        lent = bytes(4) if reply == NAK else LEASED.packed
        body = b"\2\1\6\0" + message[4:8] + bytes(4) + message[12:16] + lent + bytes(8) + message[28:44] + bytes(192)
        body += b"\x63\x82\x53\x63" + bytes([53, 1, reply, 54, 4]) + SERVER.packed
        if reply != NAK:
            body += pack(">BBI", 51, 4, self.seconds) + b"\1\4\xff\xff\xff\0" + b"\3\4" + SERVER.packed + self.options
        body += b"\xff"
        udp = pack(">HHHH", 67, 68, 8 + len(body), 0)
        head = pack(">BBHHHBBH", 0x45, 0, 28 + len(body), 0, 0, 64, 17, 0) + SERVER.packed + b"\xff\xff\xff\xff"
        total = sum(int.from_bytes(head[at : at + 2]) for at in range(0, 20, 2))
        total = (total & 0xFFFF) + (total >> 16)
        head = head[:10] + pack(">H", ~total & 0xFFFF) + head[12:]
        await self.writer.write(message[28:34] + SERVER_MAC + b"\x08\0" + head + udp + body)


@asynccontextmanager
async def dhcp_server(tap: TapInterface) -> AsyncIterator[DhcpServer]:
    """Run a server on the frames of a TAP interface."""
    server = DhcpServer(tap)
    task = asyncio.create_task(server.serve())
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
