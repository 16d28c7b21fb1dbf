"""The smallest program: one host connects to itself, through its loopback interface.

A new stack has 127.0.0.1 and ::1. `listen_tcp` and `connect_tcp` return connections that are read by iterating
over them, and written through `writable`.
"""

import asyncio

from tcpip_wasm import TcpListener, create_stack


async def echo_once(listener: TcpListener) -> None:
    connection = await listener.accept()
    await connection.readable.pipe_to(connection.writable)


async def main() -> None:
    async with await create_stack() as stack, await stack.listen_tcp(port=7) as listener:
        for host in ("127.0.0.1", "::1"):
            echoing = asyncio.create_task(echo_once(listener))
            connection = await stack.connect_tcp(host=host, port=listener.port)
            writer = connection.writable.get_writer()
            await writer.write(b"hello, ")
            await writer.write(b"myself")
            await writer.close()  # sends FIN; reading goes on
            answer = b"".join([chunk async for chunk in connection])
            await echoing
            print(f"{connection.local_address[0]} port {connection.remote_address[1]}: {answer.decode()}")
            await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
