"""Hosts that find each other without a server: names in .local, and services that come and go (RFC 6762, RFC 6763).

Two hosts want the same name: the second one takes another. avahi or a phone on the link would find both.
"""

import asyncio

from tcpip_wasm import connect, create_stack
from tcpip_wasm.services import MdnsBrowser, MdnsResponder, MdnsService


async def main() -> None:
    async with await create_stack() as switch, await create_stack() as one, await create_stack() as two:
        ports = []
        for number, stack in enumerate((one, two), 1):
            port = await switch.create_tap_interface()
            connect(await stack.create_tap_interface(ip=f"10.0.0.{number}/24"), port)
            ports.append(port)
        await switch.create_bridge_interface(ports=ports)
        async with MdnsBrowser(two, "_http._tcp") as browser:
            events = browser.events()
            async with MdnsResponder(one, "printer", [MdnsService("_http._tcp", 80, "Laser", {"paper": "a4"})]):
                found = (await anext(events)).instance
                print(f"{found.name}: {found.host} port {found.port}, {found.addresses[0]}, {dict(found.properties)}")
                async with MdnsResponder(two, "printer") as second:
                    print("the second host is", second.host)
                    print("the first finds it at", (await one.getaddrinfo(second.host, 80))[0][4][0])
            gone = await anext(events)
            print(f"{gone.instance.name}: {gone.kind}")


if __name__ == "__main__":
    asyncio.run(main())
