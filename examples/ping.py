"""Ping, IPv4 and IPv6: small and large requests, many at once, and hosts that do not answer.

A request larger than the MTU travels in fragments, and so does its reply.
"""

import asyncio

from tcpip_wasm import NetworkStack, connect, create_stack


async def ping(stack: NetworkStack, host: str) -> None:
    async with await stack.create_ping_session(host) as session:
        for size in (56, 1400, 20_000, 65_487):
            payload = bytes(size)
            reply = await session.ping(payload)
            if reply.payload != payload:
                raise SystemExit(f"{host} sent another payload back")
            time = reply.round_trip_time * 1e3
            print(f"{size:,} bytes from {reply.host}: sequence {reply.sequence_number}, {time:.2f} ms")
        replies = await asyncio.gather(*[session.ping() for _ in range(100)])
        print(f"{len(replies)} more at once: all were answered")


async def main() -> None:
    async with await create_stack() as alice, await create_stack() as bob:
        connect(
            await alice.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"]),
            await bob.create_tap_interface(ip=["10.0.0.2/24", "fd00::2/64"]),
        )
        for host in ("10.0.0.2", "fd00::2", "127.0.0.1"):
            await ping(alice, host)
        for host in ("10.0.0.3", "192.0.2.1"):  # no host has the first address; no route leads to the second
            async with await alice.create_ping_session(host) as session:
                try:
                    await session.ping(timeout=0.2)
                except OSError as error:
                    print(f"{host}: {error.strerror}")
                else:
                    raise SystemExit(f"{host} must not answer")


if __name__ == "__main__":
    asyncio.run(main())
