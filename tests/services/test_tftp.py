"""The TFTP server in virtual time: options, windows, lost packets, confinement, hostile packets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm import NetworkStack, UdpDatagram, create_stack
from tcpip_wasm.services import TftpServer
from tcpip_wasm.services.tftp import wire
from tcpip_wasm.services.tftp.server import MAX_PER_CLIENT
from tcpip_wasm.simulation import LinkSettings, run_virtually
from tests.kit.links import B4, linked

_FILE = random.Random(4).randbytes(300_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "served"
    (root / "sub").mkdir(parents=True)
    (root / "kernel").write_bytes(_FILE)
    (root / "sub" / "even").write_bytes(_FILE[:1024])
    (root / "empty").write_bytes(b"")
    (root / "text").write_bytes(b"a\nb\r\nc\rd")
    (tmp_path / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    return root


@asynccontextmanager
async def served(
    folder: Path, settings: LinkSettings | None = None, **options: Any
) -> AsyncIterator[tuple[NetworkStack, TftpServer]]:
    async with linked(settings) as hosts, TftpServer(hosts.b, folder, **options) as server:
        yield hosts.a, server


def request(name: str, *, writes: bool = False, mode: str = "octet", **options: Any) -> bytes:
    parts = [name, mode, *(text for item in options.items() for text in map(str, item))]
    return pack(">H", 2 if writes else 1) + b"".join(part.encode() + b"\0" for part in parts)


class Refused(Exception):
    """The server sent an error, whose code is the argument."""


async def get(
    stack: NetworkStack, name: str, *, mode: str = "octet", **options: Any
) -> tuple[bytes, dict[bytes, bytes]]:
    """Read a file as a client does, and return it with the options that were confirmed."""
    async with await stack.open_udp() as udp:
        last = UdpDatagram(B4, 69, request(name, mode=mode, **options))
        await udp.send(last)
        content, confirmed, block, since, ended = b"", dict[bytes, bytes](), 0, 0, False
        while not ended:
            try:
                async with asyncio.timeout(2.5):
                    answer = await udp.receive()
            except TimeoutError:
                await udp.send(last)
                continue
            kind, number = int.from_bytes(answer.data[:2]), int.from_bytes(answer.data[2:4])
            window, size = int(confirmed.get(b"windowsize", 1)), int(confirmed.get(b"blksize", 512))
            if kind == wire.ERROR:
                raise Refused(number)
            if kind == wire.OACK:
                parts = answer.data[2:-1].split(b"\0")
                confirmed = dict(zip(parts[::2], parts[1::2], strict=True))
            elif number == (block + 1) & 0xFFFF:
                block, since = number, since + 1
                content += answer.data[4:]
                ended = len(answer.data) - 4 < size
            else:
                since = window  # a gap: say what is there
            if kind == wire.OACK or ended or since >= window:
                since = 0
                last = UdpDatagram(answer.host, answer.port, wire.build_ack(block))
                await udp.send(last)
        return content, confirmed


async def put(stack: NetworkStack, name: str, data: bytes, *, mode: str = "octet", **options: Any) -> None:
    """Write a file as a client does, a block at a time."""
    async with await stack.open_udp() as udp:
        last, block, size = UdpDatagram(B4, 69, request(name, writes=True, mode=mode, **options)), 0, 512
        await udp.send(last)
        while True:
            try:
                async with asyncio.timeout(2.5):
                    answer = await udp.receive()
            except TimeoutError:
                await udp.send(last)
                continue
            kind, number = int.from_bytes(answer.data[:2]), int.from_bytes(answer.data[2:4])
            if kind == wire.ERROR:
                raise Refused(number)
            if kind == wire.OACK:
                size, number = options.get("blksize", 512), 0
            if number == block:
                if block and len(last.data) < size + 4:
                    return
                part = data[block * size : (block + 1) * size]
                block += 1
                last = UdpDatagram(answer.host, answer.port, wire.build_data(block, part))
                await udp.send(last)


def test_files_with_and_without_options(folder: Path) -> None:
    async def main() -> None:
        async with served(folder) as (client, server):
            assert await get(client, "kernel") == (_FILE, {})
            assert await get(client, "/sub/even") == (_FILE[:1024], {})
            assert await get(client, "empty", tsize=0) == (b"", {b"tsize": b"0"})
            options: Any = {"blksize": 1428, "tsize": 0, "timeout": 3, "windowsize": 16}
            confirmed = {b"blksize": b"1428", b"windowsize": b"16", b"timeout": b"3", b"tsize": b"300000"}
            assert await get(client, "kernel", **options) == (_FILE, confirmed)
            assert (await get(client, "kernel", blksize=8192, windowsize=999))[1][b"windowsize"] == b"16"
            assert (await get(client, "kernel", blksize=7, timeout=0, unknown=1))[1] == {}
            assert (await get(client, "sub/even", blksize=8))[0] == _FILE[:1024]
            assert await get(client, "text", mode="netascii") == (b"a\r\nb\r\0\r\nc\r\0d", {})
            await asyncio.sleep(1)
            assert server.statistics.finished == 8

    run_virtually(main())


def test_block_numbers_begin_anew_after_65535(folder: Path) -> None:
    (folder / "long").write_bytes(_FILE * 2)

    async def main() -> None:
        async with served(folder) as (client, _):
            content, _ = await get(client, "long", blksize=8, windowsize=64)
            assert content == _FILE * 2

    run_virtually(main())


@pytest.mark.parametrize("window", [1, 8])
def test_lost_packets_are_sent_again(folder: Path, window: int) -> None:
    async def main() -> None:
        async with served(folder, LinkSettings(loss=0.05, delay=0.01), writable=True) as (client, server):
            content, _ = await get(client, "kernel", blksize=1428, windowsize=window)
            assert content == _FILE
            await asyncio.sleep(100)
            assert server.statistics.resent > 0
            await put(client, "written", _FILE[:50_000], blksize=1000)
            assert (folder / "written").read_bytes() == _FILE[:50_000]

    run_virtually(main())


def test_writing_only_when_asked(folder: Path) -> None:
    async def main() -> None:
        async with served(folder) as (client, _):
            with pytest.raises(Refused, match=str(wire.ACCESS)):
                await put(client, "new", b"data")
        async with served(folder, writable=True, max_file=100_000) as (client, server):
            await put(client, "new", _FILE[:99_999], blksize=1428)
            assert (folder / "new").read_bytes() == _FILE[:99_999]
            await put(client, "sub/even-length", _FILE[:1024])
            assert (folder / "sub" / "even-length").read_bytes() == _FILE[:1024]
            await put(client, "lines", b"a\r\nb\r\0" + b"c" * 505 + b"\r\n", mode="netascii")
            assert (folder / "lines").read_bytes() == b"a\nb\r" + b"c" * 505 + b"\n"
            refused: list[tuple[str, bytes, int, Any]] = [
                ("new", b"other", wire.EXISTS, {}),
                ("../outside", b"x", wire.NOT_FOUND, {}),
                ("out", b"x", wire.EXISTS, {}),
                ("long", _FILE, wire.FULL, {}),
                ("long", b"", wire.FULL, {"tsize": 100_001}),
                ("nowhere/file", b"x", wire.NOT_FOUND, {}),
            ]
            for name, data, code, options in refused:
                with pytest.raises(Refused, match=str(code)):
                    await put(client, name, data, **options)
            assert (folder / "new").read_bytes() == _FILE[:99_999]
            assert not (folder / "long").exists()
            async with await client.open_udp() as udp:
                await udp.send(UdpDatagram(B4, 69, request("abandoned", writes=True)))
                await udp.receive()
                assert (folder / "abandoned").exists()
            await asyncio.sleep(100)
            assert not (folder / "abandoned").exists()
            assert not server._tasks
            assert (folder.parent / "secret").read_text() == "secret"

    run_virtually(main())


@pytest.mark.parametrize(
    "name",
    ["../secret", "sub/../../secret", "out", "/../secret", "..", "", "/", "sub", "a" * 400, "kernel/x", ".", "a\\b"],
)
def test_nothing_outside_of_the_folder_is_reachable(folder: Path, name: str) -> None:
    async def main() -> None:
        async with served(folder) as (client, _):
            with pytest.raises(Refused, match=str(wire.NOT_FOUND)):
                await get(client, name)
            with pytest.raises(Refused):
                await get(client, str(folder.parent / "secret"))

    run_virtually(main())


def test_clients_that_stop_and_floods_of_requests(folder: Path) -> None:
    async def main() -> None:
        async with served(folder) as (client, server):
            async with await client.open_udp(port=5000) as udp:
                for _ in range(100):  # the same request again: one transfer
                    await udp.send(UdpDatagram(B4, 69, request("kernel")))
                await asyncio.sleep(0.5)
                assert len(server._tasks) == 1
            sockets = [await client.open_udp() for _ in range(100)]
            for udp in sockets:
                await udp.send(UdpDatagram(B4, 69, request("kernel", blksize=1428, windowsize=64)))
            await asyncio.sleep(0.5)
            assert len(server._tasks) <= MAX_PER_CLIENT
            await asyncio.sleep(200)
            assert not server._tasks
            assert not server._clients
            assert not server._hosts
            for udp in sockets:
                await udp.close()
            assert (await get(client, "kernel", blksize=1428))[0] == _FILE

    run_virtually(main())


def test_damaged_packets(folder: Path) -> None:
    async def main() -> None:
        rng = random.Random(6)
        valid = [request("kernel", blksize=1428, windowsize=4), wire.build_ack(1), wire.build_data(1, b"x" * 512)]
        valid += [wire.build_error(1, "text"), wire.build_oack({b"blksize": b"8"})]
        async with served(folder, writable=True) as (client, server), await client.open_udp() as udp:
            for _ in range(3000):
                data = bytearray(rng.choice(valid))
                for _ in range(rng.randrange(1, 6)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                await udp.send(UdpDatagram(B4, 69, bytes(data[: rng.randrange(1, len(data) + 1)])))
            await asyncio.sleep(200)
            assert not server._tasks
            assert server.statistics.malformed > 1000
            assert (await get(client, "kernel", blksize=1428))[0] == _FILE
        assert {path.name for path in folder.parent.iterdir()} == {"served", "secret"}

    run_virtually(main())


def test_other_hosts_cannot_disturb_a_transfer(folder: Path) -> None:
    async def main() -> None:
        async with served(folder) as (client, server):
            reading = asyncio.create_task(get(client, "kernel"))
            await asyncio.sleep(0)
            async with await client.open_udp() as udp:
                for port in range(1024, 60000, 7):
                    await udp.send(UdpDatagram(B4, port, wire.build_error(0, "stop")))
            assert (await reading)[0] == _FILE
            await asyncio.sleep(1)
            assert server.statistics.finished == 1

    run_virtually(main())


def test_the_server_ends_with_its_stack(folder: Path) -> None:
    async def main() -> None:
        async with linked() as hosts:
            server = await TftpServer(hosts.b, folder, port=0).start()
            assert server.port > 0
            async with await hosts.a.open_udp() as udp:
                await udp.send(UdpDatagram(B4, server.port, request("kernel")))
                await udp.receive()
            await hosts.b.aclose()
            assert server.closed
            await server.aclose()
            assert not server._tasks
        async with await create_stack() as stack:
            with pytest.raises(NotADirectoryError):
                TftpServer(stack, folder / "kernel")

    run_virtually(main())


@given(st.binary(max_size=100), st.sampled_from([b"", b"\0\1", b"\0\2", b"\0\1a\0octet\0", b"\0\1a\0OCTET\0blksize\0"]))
def test_any_bytes_are_a_packet_or_refused(data: bytes, head: bytes) -> None:
    try:
        packet = wire.parse(head + data)
    except wire.BadPacket:
        return
    if isinstance(packet, wire.Request):
        agreed = wire.negotiate(packet, 1000)
        assert wire.MIN_BLOCK <= agreed.block_size <= wire.MAX_BLOCK
        assert 1 <= agreed.window <= wire.MAX_WINDOW
        assert agreed.block_size * agreed.window <= max(wire.MAX_WINDOW_BYTES, wire.MAX_BLOCK)


@given(st.binary(max_size=50).filter(lambda data: b"\r" not in data.replace(b"\r\n", b"")))
def test_netascii_is_undone(data: bytes) -> None:
    text = data.replace(b"\r\n", b"\n")
    assert wire.from_netascii(wire.to_netascii(text)) == text
