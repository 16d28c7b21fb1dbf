"""Piped streams: a server that compresses the data it receives, in one line.

`readable.pipe_through(transform).pipe_to(writable)` moves the data, with backpressure from a slow receiver,
propagates errors and the end in both directions, and never buffers more than a few chunks.
"""

import asyncio
import zlib

from tcpip_wasm import TcpConnection, TcpListener, TransformStream, create_stack

GZIP = 31  # makes zlib write gzip's format: the largest window plus 16


async def compress(connection: TcpConnection) -> None:
    compressor = zlib.compressobj(wbits=GZIP)
    gzip = TransformStream(compressor.compress, flush=compressor.flush)
    await connection.readable.pipe_through(gzip).pipe_to(connection.writable)
    await connection.close()


async def serve_one(listener: TcpListener) -> None:
    await compress(await listener.accept())


async def send(connection: TcpConnection, data: bytes) -> None:
    writer = connection.writable.get_writer()
    for at in range(0, len(data), 65536):
        await writer.write(data[at : at + 65536])
    await writer.close()


async def main() -> None:
    text = b"".join(b"line %d of a text that repeats itself\n" % number for number in range(100_000))
    async with await create_stack() as stack, await stack.listen_tcp(port=0) as listener:
        serving = asyncio.create_task(serve_one(listener))
        connection = await stack.connect_tcp(host="127.0.0.1", port=listener.port)
        sending = asyncio.create_task(send(connection, text))
        answer = b"".join([chunk async for chunk in connection])
        await asyncio.gather(serving, sending)
        same = zlib.decompress(answer, wbits=GZIP) == text
        print(f"{len(text):,} bytes sent, {len(answer):,} came back; decompressed they are "
              f"{'the same' if same else 'not the same'}")  # fmt: skip
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
