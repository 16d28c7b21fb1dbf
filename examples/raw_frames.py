"""Raw frames: every frame of a TAP interface is printed, and answered by a peer of twenty lines.

`tap.readable` and `tap.writable` carry whole Ethernet frames as bytes, so the other end can be a tunnel, an
emulator, or, as here, a minimal host that answers ARP (RFC 826) and refuses every TCP connection (RFC 9293,
section 3.10.7.1). The stack resolves its address, tries to connect, and is refused.
"""

import asyncio
from ipaddress import IPv4Address

from tcpip_wasm import TapInterface, create_stack

MAC = bytes.fromhex("020000000002")
ADDRESS = IPv4Address("10.0.0.2").packed
ARP, IPV4, IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
TCP, RST_ACK = 6, 0x14


def checksum(data: bytes) -> bytes:
    """The Internet checksum: RFC 1071."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2, "big")


def arp_reply(request: bytes) -> bytes:
    asker = request[8:18]
    return request[:6] + b"\x00\x02" + MAC + ADDRESS + asker


def refusal(packet: bytes) -> bytes:
    """Return the RST for a packet with a SYN."""
    segment = packet[20:]
    acknowledged = (int.from_bytes(segment[4:8], "big") + 1).to_bytes(4, "big")
    reset = segment[2:4] + segment[:2] + bytes(4) + acknowledged + bytes([0x50, RST_ACK]) + bytes(6)
    pseudo = ADDRESS + packet[12:16] + bytes([0, TCP]) + len(reset).to_bytes(2, "big")
    reset = reset[:16] + checksum(pseudo + reset) + reset[18:]
    header = bytes([0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0]) + ADDRESS + packet[12:16]
    return header[:10] + checksum(header) + header[12:] + reset


def answer(frame: bytes) -> tuple[str, bytes | None]:
    """Return what a frame is, and the frame that answers it, or None."""
    kind, packet = frame[12:14], frame[14:]
    link = frame[6:12] + MAC + kind
    if kind == ARP and packet[24:28] == ADDRESS:
        return f"ARP: who has {IPv4Address(packet[24:28])}?", link + arp_reply(packet)
    if kind == IPV4 and packet[9] == TCP and packet[16:20] == ADDRESS:
        return f"TCP: SYN to port {int.from_bytes(packet[22:24], 'big')}", link + refusal(packet)
    return f"{'IPv6' if kind == IPV6 else 'other'}, {len(frame)} bytes: not answered", None


async def peer(tap: TapInterface) -> None:
    with tap.writable.get_writer() as writer:
        async for frame in tap:
            text, reply = answer(frame)
            print("frame:", text)
            if reply is not None:
                await writer.write(reply)


async def main() -> None:
    async with await create_stack() as stack:
        tap = await stack.create_tap_interface(ip="10.0.0.1/24")
        answering = asyncio.create_task(peer(tap))
        try:
            await stack.connect_tcp(host="10.0.0.2", port=80)
        except ConnectionRefusedError as error:
            print("refused, as it should be:", error)
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
