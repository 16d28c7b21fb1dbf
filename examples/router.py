"""Two networks and a router between them: a stack that forwards packets.

Forwarding is off by default. The hosts need a route to their router; the router has routes to the networks of
its addresses. One network is an Ethernet, the other a tunnel of IP packets; IPv4 and IPv6 are forwarded.
"""

import asyncio
import hashlib

from tcpip_wasm import connect, create_stack

FILE = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(100_000))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(FILE)
    await writer.drain()
    writer.close()


async def main() -> None:
    async with await create_stack() as alice, await create_stack() as router, await create_stack() as bob:
        connect(
            await alice.create_tap_interface(ip=["10.1.0.2/24", "fd01::2/64"]),
            await router.create_tap_interface(ip=["10.1.0.1/24", "fd01::1/64"]),
        )
        connect(
            await router.create_tun_interface(ip=["10.2.0.1/24", "fd02::1/64"], mtu=1400),
            await bob.create_tun_interface(ip=["10.2.0.2/24", "fd02::2/64"], mtu=1400),
        )
        for host, number in ((alice, 1), (bob, 2)):
            host.add_route("0.0.0.0/0", via=f"10.{number}.0.1")
            host.add_route("::/0", via=f"fd0{number}::1")
        router.forwarding = True
        print("the router's table:")
        for route in router.routes:
            print(f"  {route.network} by {route.interface.name}")

        await bob.start_server(serve, port=8000)
        for address in ("10.2.0.2", "fd02::2"):
            reader, writer = await alice.open_connection(address, 8000)
            writer.write(b"send it\n")
            arrived = await reader.read()
            writer.close()
            assert arrived == FILE
            print(f"Alice has {len(arrived):,} bytes from {address}, the same as Bob's")

        figures = router.stats().core
        print(f"the router forwarded {figures.forwarded:,} packets, and had no connection itself")
        assert figures.forwarded > 4000
        assert figures.tcp_segments_in == 0

        router.forwarding = False
        before = figures.forwarded
        try:
            async with asyncio.timeout(0.5):
                await alice.open_connection("10.2.0.2", 8000)
        except TimeoutError:
            print("with forwarding off, the connection fails")
        assert router.stats().core.forwarded == before


if __name__ == "__main__":
    asyncio.run(main())
