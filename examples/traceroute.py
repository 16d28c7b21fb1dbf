"""Traceroute in a dozen lines: pings whose TTL runs out one router further each time.

`traceroute` works over any path. The path here is made of code: what leaves the stack's tun is answered by
three routers that exist only as addresses, the way RFC 792 has routers answer.
"""

import asyncio
from struct import pack

from tcpip_wasm import NetworkStack, TimeExceededError, TunInterface, create_stack

ROUTERS = ("10.0.0.254", "10.1.0.254", "10.2.0.254")
FAR = "10.3.0.1"


async def traceroute(stack: NetworkStack, host: str, most: int = 30) -> list[str]:
    """Return the addresses of the routers on the way to a host, and the host's at the end; * keeps silent."""
    hops = []
    async with await stack.create_ping_session(host) as session:
        for ttl in range(1, most + 1):
            try:
                reply = await session.ping(ttl=ttl)
            except TimeExceededError as error:
                hops.append(error.reporter)
            except TimeoutError:
                hops.append("*")
            else:
                return [*hops, reply.host]
    return hops


def checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0")) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return pack("!H", ~total & 0xFFFF)


def packet(source: bytes, destination: bytes, message: bytes) -> bytes:
    """Return an ICMP message as an IPv4 packet, both with their sums."""
    message = message[:2] + checksum(message[:2] + b"\0\0" + message[4:]) + message[4:]
    header = pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0, source, destination)
    return header[:10] + checksum(header) + header[12:] + message


async def path(tun: TunInterface) -> None:
    """Be the routers, and the host behind them."""
    with tun.writable.get_writer() as writer:
        async for request in tun:
            ttl, source, destination = request[8], request[12:16], request[16:20]
            if ttl <= len(ROUTERS):
                router = bytes(map(int, ROUTERS[ttl - 1].split(".")))
                answer = packet(router, source, b"\x0b\0\0\0\0\0\0\0" + request[:28])  # time exceeded
            else:
                answer = packet(destination, source, b"\0" + request[21:])  # echo reply
            await writer.write(answer)


async def main() -> None:
    async with await create_stack() as stack:
        tun = await stack.create_tun_interface(ip="10.0.0.1/8")
        routers = asyncio.create_task(path(tun))
        await asyncio.sleep(0)
        hops = await traceroute(stack, FAR)
        for number, hop in enumerate(hops, 1):
            print(number, hop)
        routers.cancel()
        if hops != [*ROUTERS, FAR]:
            raise SystemExit("that is not the path")


if __name__ == "__main__":
    asyncio.run(main())
