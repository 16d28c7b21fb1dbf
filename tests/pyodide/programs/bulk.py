"""Sends 24 MiB over a cable, MTU 1500 with checksums, and prints the rate in Mbit/s and whether the hashes agree."""

import asyncio
import hashlib
import time

from tcpip_wasm import connect, create_stack

SIZE = 24 << 20
CHUNK = bytes(range(256)) * 256


async def main() -> None:
    async with await create_stack() as alice, await create_stack() as bob:
        connect(await alice.create_tap_interface(ip="10.0.0.1/24"), await bob.create_tap_interface(ip="10.0.0.2/24"))
        received = hashlib.sha256()
        done = asyncio.get_running_loop().create_future()

        async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 16):
                received.update(data)
            writer.close()
            done.set_result(None)

        await bob.start_server(receive, port=8000)
        _, writer = await alice.open_connection("10.0.0.2", 8000)
        sent = hashlib.sha256()
        begin = time.perf_counter()
        for _ in range(SIZE // len(CHUNK)):
            sent.update(CHUNK)
            writer.write(CHUNK)
            await writer.drain()
        writer.close()
        await done
        seconds = time.perf_counter() - begin
        print(
            f"{8 * SIZE / seconds / 1e6:.0f} Mbit/s, {'equal' if sent.digest() == received.digest() else 'DIFFERENT'}"
        )


asyncio.run(main())
