"""Unmodified libraries on stacks: aiohttp serves and fetches over TLS.

Inside `with stack.polyfill():` the event loop uses the stack's network, so programs that use asyncio run over it
unchanged. Here bob is the server and alice the client; the route of alice's polyfill leaves other destinations to the
machine's network. Needs aiohttp and trustme, which the extra ``test`` installs.
"""

import asyncio
import hashlib
import ssl
import sys

from tcpip_wasm import connect, create_stack

try:
    import trustme
    from aiohttp import ClientConnectorError, ClientSession, web
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

FILE = bytes(range(256)) * 40_000


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"good day, {request.remote}")


async def download(request: web.Request) -> web.Response:
    return web.Response(body=FILE)


async def main() -> None:
    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("10.0.0.2").configure_cert(server_side)
    authority.configure_trust(client_side)

    async with await create_stack() as alice, await create_stack() as bob:
        connect(
            await alice.create_tap_interface(ip="10.0.0.1/24"),
            await bob.create_tap_interface(ip="10.0.0.2/24"),
        )
        application = web.Application()
        application.add_routes([web.get("/", hello), web.get("/file", download)])
        runner = web.AppRunner(application)
        await runner.setup()
        with bob.polyfill():
            await web.TCPSite(runner, "0.0.0.0", 443, ssl_context=server_side).start()

        with alice.polyfill(route=["10.0.0.0/8"]):
            async with ClientSession() as session:
                async with session.get("https://10.0.0.2/", ssl=client_side) as response:
                    print(await response.text())
                async with session.get("https://10.0.0.2/file", ssl=client_side) as response:
                    received = await response.read()
                same = hashlib.sha256(received).digest() == hashlib.sha256(FILE).digest()
                print(f"{len(received):,} bytes over TLS, {'the same' if same else 'DIFFERENT'} at both ends")
                try:
                    await session.get("http://10.0.0.2:81/")
                except ClientConnectorError as error:
                    print(f"refused: {error.os_error.strerror}")
        await runner.cleanup()
        if not same:
            sys.exit(1)


if __name__ == "__main__":
    asyncio.run(main())
