"""A service that crashes and a network with loss, in virtual time: two virtual minutes take less than a second.

The same seed gives the same frames, as the digest shows.
"""

import asyncio
import time

from tcpip_wasm.simulation import Network, run


async def count_words() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = await reader.read(-1)
        writer.write(b"%d\n" % len(text.split()))
        writer.close()

    async with await asyncio.start_server(answer, port=1000) as server:
        await server.serve_forever()


async def ask(text: str) -> tuple[int, int]:
    """Send the request until there is an answer, as a robust client does."""
    for attempt in range(100):
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("server", 1000)
                try:
                    writer.write(text.encode())
                    writer.write_eof()
                    if answer := await reader.readline():
                        return int(answer), attempt + 1
                finally:
                    writer.close()
        except OSError:  # includes TimeoutError
            pass
        await asyncio.sleep(1)
    raise TimeoutError("a hundred attempts")


async def scenario(network: Network) -> int:
    switch = network.switch("switch")
    client, server = network.host("client"), network.host("server")
    network.link(client, switch, bandwidth=100e6, delay=0.002)
    network.link(switch, server, bandwidth=1e6, delay=0.02, loss=0.05)
    server.start(count_words)

    network.at(30, server.crash)
    network.at(45, server.restart)
    network.at(70, network.partition, [client], [server])
    network.at(90, network.heal)

    attempts = 0
    for number in range(100):
        words, needed = await client.run(ask("word " * number))
        assert words == number
        attempts += needed
        await asyncio.sleep(1)
    return attempts


def main() -> None:
    began = time.perf_counter()
    first, second, other = run(scenario, seed=1), run(scenario, seed=1), run(scenario, seed=2)
    took = time.perf_counter() - began
    trace = first.network.trace()
    dropped = [str(one.comment) for one in trace.observations if one.dropped]
    print(f"100 answers in {first.value} attempts, {first.duration:.0f} s of virtual time, {len(trace)} frames")
    print("dropped:", ", ".join(f"{dropped.count(why)} by {why}" for why in sorted(set(dropped))))
    assert first.digest == second.digest
    assert first.digest != other.digest
    assert not first.leaked
    assert took < first.duration
    print("the same seed gives the same frames, another seed gives others")


if __name__ == "__main__":
    main()
