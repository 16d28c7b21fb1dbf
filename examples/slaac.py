"""Two hosts without configured addresses: one advertises a prefix as a router does, the other configures an address
from it (RFC 4862) and a name server (RFC 8106), and they connect.

    .venv/bin/python examples/slaac.py
"""

from __future__ import annotations

import asyncio
import sys
from ipaddress import IPv6Network

from tcpip_wasm import connect, create_stack

PREFIX = IPv6Network("2001:db8:1::/64")


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"good day, " + await reader.readline())
    writer.close()


async def main() -> int:
    async with await create_stack(seed=1) as router, await create_stack(seed=2) as host:
        here = await router.create_tap_interface(ip=f"{PREFIX[1]}/64")
        there = await host.create_tap_interface()
        connect(here, there)
        advertiser = await here.advertise(PREFIX, lifetime=3600, name_servers=[PREFIX[0x53]])
        print(f"the router advertises {PREFIX}")

        await there.configure(slaac=True)
        (address,) = there.addresses
        print(f"the host configured {address}, and no other host has it")
        print(f"its name server is {there.name_servers[0]}")
        if address.ip not in PREFIX:
            return 1

        await host.start_server(greet, port=8000)
        reader, writer = await router.open_connection(address.ip, 8000)
        writer.write(b"neighbour\n")
        answer = await reader.read()
        writer.close()
        print(f"the router connected to it and received: {answer.decode().strip()}")
        await advertiser.close()
        return 0 if answer == b"good day, neighbour\n" else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
