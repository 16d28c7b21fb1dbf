"""Three hosts on a bridge of a stack: TAP interfaces are its ports, and the stack itself is a host on it, too.

Frames go from port to port inside the module. The bridge learns the port of each address, so that only frames to an
unknown address are flooded to all ports. Ports can be added and removed while others are used.
"""

import asyncio

from tcpip_wasm import NetworkStack, connect, create_stack


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"good day, " + await reader.readline())
    writer.close()


async def call(host: NetworkStack, address: str, name: str) -> str:
    reader, writer = await host.open_connection(address, 8000)
    writer.write(name.encode() + b"\n")
    answer = (await reader.readline()).decode().strip()
    writer.close()
    return answer


async def main() -> None:
    async with (
        await create_stack() as switch,
        await create_stack() as alice,
        await create_stack() as bob,
        await create_stack() as carol,
    ):
        hosts = {"Alice": alice, "Bob": bob, "Carol": carol}
        ports = [await switch.create_tap_interface() for _ in hosts]
        bridge = await switch.create_bridge_interface(ports=ports, ip="192.168.1.254/24")
        for number, (host, port) in enumerate(zip(hosts.values(), ports, strict=True), 1):
            connect(await host.create_tap_interface(ip=f"192.168.1.{number}/24"), port)
            await host.start_server(greet, port=8000)
        await switch.start_server(greet, port=8000)

        for name, host in hosts.items():
            for number, other in enumerate(hosts, 1):
                if other != name:
                    answer = await call(host, f"192.168.1.{number}", name)
                    print(f"{other} to {name}: {answer}")
                    assert answer == f"good day, {name}"
            print(f"the bridge to {name}: {await call(host, '192.168.1.254', name)}")
        print(f"the bridge knows {bridge.learned} addresses on {len(bridge.ports)} ports")
        assert bridge.learned == 3

        await bridge.remove_port(ports[1])
        try:
            async with asyncio.timeout(0.5):
                await call(alice, "192.168.1.2", "Alice")
        except TimeoutError:
            print("without his port, Bob does not answer")
        else:
            raise AssertionError("Bob has no port, and answers")
        await bridge.add_port(ports[1])
        print(f"Bob is back: {await call(alice, '192.168.1.2', 'Alice')}")


if __name__ == "__main__":
    asyncio.run(main())
