"""Sends a byte and awaits it back 300 times, and prints the median round trip in microseconds."""

import asyncio
import statistics
import time

from tcpip_wasm import connect, create_stack


async def main() -> None:
    async with await create_stack() as alice, await create_stack() as bob:
        connect(await alice.create_tap_interface(ip="10.0.0.1/24"), await bob.create_tap_interface(ip="10.0.0.2/24"))

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

        await bob.start_server(echo, port=7)
        reader, writer = await alice.open_connection("10.0.0.2", 7)
        times = []
        for number in range(300):
            begin = time.perf_counter()
            writer.write(bytes([number % 256]))
            assert await reader.readexactly(1) == bytes([number % 256])
            times.append(time.perf_counter() - begin)
        writer.close()
        print(f"{1e6 * statistics.median(times):.0f} microseconds")


asyncio.run(main())
