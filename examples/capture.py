"""A capture of a cable, into a file for Wireshark and into a trace for a test.

`capture` captures any interface of a stack, whatever it is attached to. Here one end of a cable is captured twice: into
a pcapng file, which is read back, and into a `Trace`, whose packets are objects. Both have the same packets, which are
printed, one line each; ``tcpip-wasm show FILE`` prints the same, and ``tcpip-wasm plot FILE`` draws a connection.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from tcpip_wasm import connect, create_stack
from tcpip_wasm.capture import Trace, capture


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"good day, " + await reader.readline())
    await writer.drain()
    writer.close()


async def converse(file: Path) -> Trace:
    trace = Trace()
    async with await create_stack() as alice, await create_stack() as bob:
        tap = await alice.create_tap_interface(ip="10.0.0.1/24")
        connect(tap, await bob.create_tap_interface(ip="10.0.0.2/24"))
        with capture(tap, file, comment="Alice calls Bob"), capture(tap, trace):
            async with await bob.start_server(greet, port=8000):
                reader, writer = await alice.open_connection("10.0.0.2", 8000)
                writer.write(b"Alice\n")
                print("Bob says:", (await reader.read()).decode().strip())
                writer.close()
                await writer.wait_closed()
    return trace


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "alice.pcapng"
        trace = asyncio.run(converse(file))
        read = Trace.load(file)
    print(read.text())
    answers = read.tcp(source="10.0.0.2", source_port=8000).where(lambda packet: packet.payload)
    print("what Bob sent:", b"".join(packet.payload for packet in answers))
    syn = next(packet.tcp for packet in read.tcp() if packet.tcp is not None and packet.tcp.syn)
    print(f"Alice offered segments of {syn.mss} bytes and a window scaled by {syn.window_scale} bits")
    if [packet.observation.frame for packet in read] != [packet.observation.frame for packet in trace]:
        sys.exit("the file and the trace differ")


if __name__ == "__main__":
    main()
