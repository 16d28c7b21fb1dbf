"""Asks for TLS, which Pyodide's `ssl` refuses: prints the error, and that the stack goes on."""

import asyncio
import ssl

from tcpip_wasm import connect, create_stack


async def main() -> None:
    async with await create_stack() as alice, await create_stack() as bob:
        connect(await alice.create_tap_interface(ip="10.0.0.1/24"), await bob.create_tap_interface(ip="10.0.0.2/24"))

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()

        await bob.start_server(echo, port=443)
        try:
            await asyncio.wait_for(alice.open_connection("10.0.0.2", 443, ssl=ssl.create_default_context()), 30)
        except NotImplementedError as error:
            print(error)
        reader, writer = await alice.open_connection("10.0.0.2", 443)
        writer.write(b"in the clear\n")
        writer.write_eof()
        print((await reader.read()).decode(), end="")
        writer.close()


asyncio.run(main())
