"""A VPN without root: two stacks reach each other through WireGuard, over UDP of this machine.

Each end is a stack with a tun and a key pair. The peers of an end are what `wg` would configure: a public key, the
addresses behind it, and where it is. Any other implementation of WireGuard may be at the other end. Here a file is
fetched through the tunnel, and a peer with another key is not answered.

Needs cryptography: pip install 'tcpip-wasm[wireguard]'. `tcpip-wasm wg genkey` prints keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import os

from tcpip_wasm import create_stack
from tcpip_wasm.links import WireGuard, WireGuardPeer
from tcpip_wasm.links.wireguard.keys import new_private_key, public_key

MTU = 1420  # 1,500 less the headers of WireGuard, UDP and IPv6
FILE = os.urandom(5_000_000)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(FILE)
    await writer.drain()
    writer.close()


async def main() -> None:
    home_key, office_key = new_private_key(), new_private_key()
    async with await create_stack() as home, await create_stack() as office:
        office_link = await WireGuard.create(
            await office.create_tun_interface(ip=["10.8.0.1/24", "fd08::1/64"], mtu=MTU),
            private_key=office_key,
            host="127.0.0.1",
            peers=[WireGuardPeer(public_key=public_key(home_key), allowed_ips=["10.8.0.2", "fd08::2"])],
        )
        at_office = WireGuardPeer(
            public_key=office_link.public_key,
            endpoint=("127.0.0.1", office_link.port),
            allowed_ips=["10.8.0.0/24", "fd08::/64"],
        )
        home_link = await WireGuard.create(
            await home.create_tun_interface(ip=["10.8.0.2/24", "fd08::2/64"], mtu=MTU),
            private_key=home_key,
            host="127.0.0.1",
            peers=[at_office],
        )
        async with await office.start_server(serve, port=80):
            for host in ("10.8.0.1", "fd08::1"):
                reader, writer = await home.open_connection(host, 80)
                writer.write(b"file\n")
                digest = hashlib.sha256(await reader.read(-1))
                writer.close()
                assert digest.digest() == hashlib.sha256(FILE).digest()
                print(f"{len(FILE):,} bytes from {host}, the same at both ends")
            home_link.close()

            async with await create_stack() as thief:
                link = await WireGuard.create(
                    await thief.create_tun_interface(ip="10.8.0.2/24", mtu=MTU),
                    private_key=new_private_key(),
                    host="127.0.0.1",
                    peers=[at_office],
                )
                try:
                    await asyncio.wait_for(thief.open_connection("10.8.0.1", 80), 0.5)
                except TimeoutError:
                    print("another key: no answer")
                link.close()
        print(f"sessions: {office_link.tunnel_counters.handshakes}, forged: {office_link.tunnel_counters.forged}")
        office_link.close()


if __name__ == "__main__":
    asyncio.run(main())
