"""What a machine that boots from the network asks for: its address and boot file by DHCP, the file by TFTP, the time.

The guest here is a stack with a TFTP client of twenty lines; a network card's firmware or iPXE does the same.
"""

import asyncio
import random
import struct
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tcpip_wasm import NetworkStack, UdpDatagram, connect, create_stack
from tcpip_wasm.services import DhcpServer, SntpServer, TftpServer

BLOCK = 1428


async def fetch(guest: NetworkStack, host: str, name: str) -> bytes:
    """Read a file by TFTP (RFC 1350) in blocks of 1,428 bytes (RFC 2348)."""
    async with await guest.open_udp() as udp:
        request = b"\0\1" + b"\0".join([name.encode(), b"octet", b"blksize", str(BLOCK).encode(), b""])
        await udp.send(UdpDatagram(host, 69, request))
        content, ended = b"", False
        while not ended:
            answer = await udp.receive()
            kind, block = struct.unpack_from(">HH", answer.data)
            if kind == 5:
                raise FileNotFoundError(name)
            if kind == 6:  # the server confirms the block size
                block = 0
            else:
                content += answer.data[4:]
                ended = len(answer.data) < BLOCK + 4
            await udp.send(UdpDatagram(answer.host, answer.port, struct.pack(">HH", 4, block)))
        return content


async def ask_date(guest: NetworkStack, host: str) -> datetime:
    """Return the date by SNTP (RFC 4330)."""
    async with await guest.open_udp() as udp:
        await udp.send(UdpDatagram(host, 123, b"\x23" + bytes(47)))
        (seconds,) = struct.unpack_from(">I", (await udp.receive()).data, 40)
    return datetime.fromtimestamp(seconds - 2_208_988_800, UTC)


async def main(folder: str, kernel: bytes) -> None:
    async with await create_stack() as host, await create_stack() as guest:
        tap, end = await host.create_tap_interface(ip="10.0.0.1/24"), await guest.create_tap_interface()
        connect(tap, end)
        async with (
            DhcpServer(tap, pool=("10.0.0.100", "10.0.0.199"), boot_file="kernel.bin"),
            TftpServer(host, folder),
            SntpServer(host, date=datetime(2030, 1, 1, tzinfo=UTC).timestamp()),
        ):
            lease = await end.configure(dhcp=True)
            print(f"{lease.address.ip} boots kernel.bin from {lease.server}")
            content = await fetch(guest, str(lease.server), "kernel.bin")
            print(f"{len(content):,} bytes, {'the same' if content == kernel else 'other ones'}")
            print(f"the date is {await ask_date(guest, str(lease.server)):%Y-%m-%d}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as served:
        image = random.Random(1).randbytes(100_000)
        Path(served, "kernel.bin").write_bytes(image)
        asyncio.run(main(served, image))
