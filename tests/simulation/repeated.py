"""A scenario with a bit of everything, and the digests that it must have everywhere; run as a module it prints one.

Two clients on a switch talk TCP and UDP to a server that is a lossy link away, by name and over both families; the
server crashes and comes back, the network is parted and healed; random back-offs, tasks in groups, threads.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import time
from typing import Final

from tcpip_wasm.simulation import CoDel, Network, Run, run

DIGEST: Final = "5d78ad12ba8975ffd388bdf4744381006d0e2d6b159f7a9434db83e9010f68eb"
"""Of seed 1."""

OTHER_DIGEST: Final = "475b6426480669c1d0a128fbddb2d8e24dfe6037bfab6d24598a9d87ceab693c"
"""Of seed 2."""


async def _serve() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    server = await asyncio.start_server(echo, port=7)
    async with server:
        await server.serve_forever()


class _Answer(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(data[::-1], address)


async def _answer() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(_Answer, local_addr=("0.0.0.0", 9))
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        transport.close()


async def _client(number: int) -> list[bytes]:
    """Talk until sixty lines have come back, over as many connections as that takes."""
    answers: list[bytes] = []
    while len(answers) < 60:
        try:
            async with asyncio.timeout(30):
                reader, writer = await asyncio.open_connection("server", 7)
                try:
                    while len(answers) < 60:
                        line = f"{number} {len(answers)} {random.random():.6f} {time.time():.3f}\n".encode()
                        writer.write(line * random.randrange(1, 100))
                        back = await reader.readline()
                        if not back:
                            break
                        answers.append(back)
                        await asyncio.to_thread(len, back)
                        await asyncio.sleep(random.random())
                finally:
                    writer.close()
        except OSError:
            await asyncio.sleep(random.random())
    return answers


async def _datagrams() -> int:
    class Count(asyncio.DatagramProtocol):
        heard = 0

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            self.heard += 1

    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Count, remote_addr=("server", 9), family=socket.AF_INET
    )
    for number in range(50):
        transport.sendto(bytes(number))
        await asyncio.sleep(0.1)
    transport.close()
    return protocol.heard


async def scenario(network: Network) -> tuple[int, int]:
    """Return how many lines and how many datagrams came back."""
    switch = network.switch("switch")
    clients = [network.host(f"client{number}") for number in range(2)]
    server = network.host("server")
    for client in clients:
        network.link(client, switch, bandwidth=1e8, delay=0.001)
    link = network.link(
        switch, server, bandwidth=2e6, delay=0.02, jitter=0.005, loss=0.02, duplicate=0.01, reorder=0.01, queue=CoDel()
    )
    server.start(_serve)
    server.start(_answer)
    network.at(4.0, server.crash)
    network.at(6.0, server.restart)
    network.at(10.0, network.partition, [clients[0]], [server])
    network.at(13.0, network.heal)
    network.at(15.0, lambda: link.change(loss=0.1))
    counted = clients[1].run(_datagrams())
    async with asyncio.TaskGroup() as group:
        lines = [group.create_task(_wait(client.run(_client(number)))) for number, client in enumerate(clients)]
    return sum(task.result() for task in lines), await counted


async def _wait(answers: asyncio.Task[list[bytes]]) -> int:
    return len(await answers)


def once(seed: int = 1) -> Run[tuple[int, int]]:
    """Run the scenario."""
    return run(scenario, seed=seed)


if __name__ == "__main__":
    print(once(int(sys.argv[1])).digest)
