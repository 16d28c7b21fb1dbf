"""A stack that lends addresses: a DHCP server for the guests of a network, one of which has a reservation.

The guests here are stacks on a bridge. A virtual machine's or the kernel's DHCP client gets its address the same way.
"""

import asyncio

from tcpip_wasm import TapInterface, connect, create_stack
from tcpip_wasm.services import DhcpServer


async def main() -> None:
    async with await create_stack() as host, await create_stack() as guests:
        ports = [await host.create_tap_interface() for _ in range(2)]
        bridge = await host.create_bridge_interface(ports=ports, ip="10.0.0.1/24")

        async def plug(port: TapInterface, mac: str) -> TapInterface:
            tap = await guests.create_tap_interface(mac=mac)
            connect(tap, port)
            return tap

        server = DhcpServer(
            bridge,
            pool=("10.0.0.100", "10.0.0.199"),
            lease_time=3600.0,
            router="10.0.0.1",
            name_servers=["10.0.0.1"],
            domain="lab.internal",
            reservations={"02:00:00:00:00:05": "10.0.0.5"},
        )
        async with server as dhcp:
            taps = [await plug(port, f"02:00:00:00:00:0{number}") for number, port in enumerate(ports, 5)]
            for tap in taps:
                lease = await tap.configure(dhcp=True)
                print(f"{tap.mac} has {lease.address}, router {lease.router}, domain {lease.domain}")
            print("the server's table:", *(f"{lease.mac}={lease.address}" for lease in dhcp.leases))
            events = dhcp.events()
            await taps[1].release()
            assert (await anext(events)).kind == "release"
            print(f"after the release: {len(dhcp.leases)} lease")


if __name__ == "__main__":
    asyncio.run(main())
