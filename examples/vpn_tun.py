"""A tunnel in sixty lines: two hosts reach each other through encrypted datagrams, without root privileges.

Each end is a stack with a TUN interface. Every packet that leaves it is encrypted with ChaCha20-Poly1305, with
a counter as nonce, and sent in a datagram of the machine's own network (here 127.0.0.1) to the other end, which
decrypts and injects it. Forged, corrupted and replayed datagrams are dropped; TCP inside the tunnel
retransmits. Both ends share a key from the start; a real VPN negotiates it.

Needs the package `cryptography`, which comes with the `test` extra.
"""

import asyncio
import hashlib
import os
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tcpip_wasm import TunInterface, create_stack

MTU = 1400  # 1,500 bytes less the headers of the datagram, its counter and its tag


class TunnelEnd(asyncio.DatagramProtocol):
    """Connects a TUN interface to a datagram socket: encrypts packets that leave, decrypts those that arrive."""

    def __init__(self, tun: TunInterface, key: bytes, side: int) -> None:
        self.tun, self.cipher, self.side = tun, ChaCha20Poly1305(key), side
        self.peer: tuple[str, int] | None = None  # a server learns it from the first valid datagram
        self.sent = self.dropped = 0
        self.newest = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.carrying = asyncio.create_task(self.carry(cast(asyncio.DatagramTransport, transport)))

    async def carry(self, transport: asyncio.DatagramTransport) -> None:
        async for packet in self.tun:
            if transport.is_closing():
                break
            if self.peer is None and transport.get_extra_info("peername") is None:
                continue
            nonce = self.side.to_bytes(4) + self.sent.to_bytes(8)
            self.sent += 1
            transport.sendto(nonce + self.cipher.encrypt(nonce, packet, None), self.peer)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            packet = self.cipher.decrypt(data[:12], data[12:], None)
        except (InvalidTag, ValueError):
            self.dropped += 1
            return
        side, count = int.from_bytes(data[:4]), int.from_bytes(data[4:12])
        if side == self.side or count <= self.newest or not self.tun.inject(packet):
            self.dropped += 1
            return
        self.newest, self.peer = count, addr


async def main() -> None:
    loop, key = asyncio.get_running_loop(), ChaCha20Poly1305.generate_key()
    async with await create_stack() as home, await create_stack() as office:
        ends = [
            TunnelEnd(await home.create_tun_interface(ip=["10.8.0.1/24", "fd08::1/64"], mtu=MTU), key, 0),
            TunnelEnd(await office.create_tun_interface(ip=["10.8.0.2/24", "fd08::2/64"], mtu=MTU), key, 1),
        ]
        server, _ = await loop.create_datagram_endpoint(lambda: ends[1], local_addr=("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, _ = await loop.create_datagram_endpoint(lambda: ends[0], remote_addr=address)

        secret = os.urandom(1_000_000)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(secret)
            writer.close()

        await office.start_server(serve, port=80)
        client.sendto(b"a forged packet, which nobody will notice")
        for host in ("10.8.0.2", "fd08::2"):
            reader, writer = await home.open_connection(host, 80)
            got = await reader.read(-1)
            writer.close()
            assert hashlib.sha256(got).digest() == hashlib.sha256(secret).digest()
            print(f"{len(got):,} bytes from {host} through the tunnel, unchanged")
        print(f"datagrams sent: {ends[0].sent} and {ends[1].sent}; dropped: {ends[0].dropped} and {ends[1].dropped}")
        assert ends[1].dropped >= 1
        client.close()
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
