"""Two hosts and asyncio's own functions, `start_server` and `open_connection`, as methods of a stack.

Their arguments, results and exceptions are those of asyncio's functions of the same names, so a program that is
written for real sockets runs on a stack by calling `stack.` instead of `asyncio.`.
"""

import asyncio

from tcpip_wasm import connect, create_stack


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = (await reader.readline()).decode().strip()
    print(f"server: {name} called from {writer.get_extra_info('peername')[0]}")
    writer.write(f"good day, {name}\n".encode())
    await writer.drain()
    writer.close()


async def main() -> None:
    async with await create_stack() as alice, await create_stack() as bob:
        # One cable, IPv4 and IPv6 on it.
        connect(
            await alice.create_tap_interface(ip=["10.0.0.1/24", "fd00::1/64"]),
            await bob.create_tap_interface(ip=["10.0.0.2/24", "fd00::2/64"]),
        )
        async with await bob.start_server(greet, port=8000):
            for host in ("10.0.0.2", "fd00::2"):
                reader, writer = await alice.open_connection(host, 8000)
                writer.write(b"Alice\n")
                print("client:", (await reader.readline()).decode().strip())
                writer.close()
                await writer.wait_closed()
        try:
            await alice.open_connection("10.0.0.2", 8000)
        except ConnectionRefusedError:
            print("client: the port is closed")


if __name__ == "__main__":
    asyncio.run(main())
