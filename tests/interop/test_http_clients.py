"""curl in a namespace against the stack's HTTP server over a TAP device: ranges, resumed downloads, TLS."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from tcpip_wasm.services import HttpServer
from tests.kit.tls import certificate_files, server_context

from .harness.requirements import require_kernel_peer
from .scenarios import STACK_ADDRESSES, KernelPeer, kernel_peer

_BIG = random.Random(2).randbytes(20_000_000)


def _run(work: Callable[[KernelPeer, Path], Awaitable[None]], folder: Path) -> None:
    require_kernel_peer("curl")
    served = folder / "served"
    served.mkdir()
    (served / "big.bin").write_bytes(_BIG)
    (folder / "secret").write_text("secret")

    async def main() -> None:
        async with kernel_peer("tap") as peer, asyncio.timeout(200):
            await work(peer, served)

    asyncio.run(main())


async def _curl(peer: KernelPeer, *arguments: str) -> str:
    command = ("curl", "--silent", "--show-error", "--noproxy", "*", "--globoff", "--max-time", "100", *arguments)
    return (await asyncio.to_thread(peer.namespace.run, *command, timeout=120.0, check=False)).stdout


def test_curl(tmp_path: Path) -> None:
    async def work(peer: KernelPeer, served: Path) -> None:
        async with HttpServer(peer.stack, served):
            for version, host in STACK_ADDRESSES.items():
                base = f"http://[{host}]" if version == 6 else f"http://{host}"
                arrived = tmp_path / f"arrived{version}"
                url = f"{base}/big.bin"
                await _curl(peer, "--range", "0-4999999", "--output", str(arrived), url)
                assert arrived.read_bytes() == _BIG[:5_000_000]
                code = await _curl(peer, "-C", "-", "--output", str(arrived), "--write-out", "%{http_code}", url)
                assert code == "206"
                assert hashlib.sha256(arrived.read_bytes()).digest() == hashlib.sha256(_BIG).digest()
                again = await _curl(peer, "-C", "-", "--output", str(arrived), "--write-out", "%{http_code}", url)
                assert again == "416"
                assert len(arrived.read_bytes()) == len(_BIG)
            tag = tmp_path / "tag"
            await _curl(peer, "--etag-save", str(tag), "--output", str(tmp_path / "x"), f"{base}/big.bin")
            code = await _curl(peer, "--etag-compare", str(tag), "--write-out", "%{http_code}", f"{base}/big.bin")
            assert code == "304"
            assert 'href="./big.bin"' in await _curl(peer, f"{base}/")
            escape = await _curl(peer, "--path-as-is", "--write-out", "%{http_code}", f"{base}/../secret")
            assert escape.endswith("404")
            assert "secret" not in escape.replace("no such file", "")

    _run(work, tmp_path)


def test_curl_over_tls(tmp_path: Path) -> None:
    async def work(peer: KernelPeer, served: Path) -> None:
        authority, *_ = certificate_files(str(tmp_path))
        context = server_context(*STACK_ADDRESSES.values())
        async with HttpServer(peer.stack, served, port=443, ssl=context):
            arrived = tmp_path / "arrived"
            url = f"https://{STACK_ADDRESSES[4]}/big.bin"
            await _curl(peer, "--cacert", authority, "--range", "0-999", "--output", str(arrived), url)
            await _curl(peer, "--cacert", authority, "-C", "-", "--output", str(arrived), url)
            assert hashlib.sha256(arrived.read_bytes()).digest() == hashlib.sha256(_BIG).digest()
            assert await _curl(peer, "--write-out", "%{http_code}", url) == "000"  # an unknown authority

    _run(work, tmp_path)


_PIPELINE = """
import socket, sys
head = b"GET /big.bin HTTP/1.1\\r\\nhost: a\\r\\nrange: bytes=%d-%d\\r\\n"
with socket.create_connection(("{host}", 80)) as s:
    for n in range(50):
        last = b"connection: close\\r\\n" if n == 49 else b""
        s.sendall(head % (n * 1000, n * 1000 + 999) + last + b"\\r\\n")
    data = b""
    while part := s.recv(65536):
        data += part
while data:
    _, _, data = data.partition(b"\\r\\n\\r\\n")
    sys.stdout.write(data[:1000].hex())
    data = data[1000:]
"""


def test_a_raw_client_that_pipelines(tmp_path: Path) -> None:
    async def work(peer: KernelPeer, served: Path) -> None:
        async with HttpServer(peer.stack, served):
            program = _PIPELINE.format(host=STACK_ADDRESSES[4])
            command = ("python3", "-I", "-c", program)
            report = await asyncio.to_thread(peer.namespace.run, *command, timeout=100.0)
            assert bytes.fromhex(report.stdout) == _BIG[:50_000]

    _run(work, tmp_path)


def test_chromium_lists_the_folder(tmp_path: Path) -> None:
    async def work(peer: KernelPeer, served: Path) -> None:
        (served / "a b&<c>.txt").write_text("x")
        async with HttpServer(peer.stack, served):
            command = (
                *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server"),
                *(f"--user-data-dir={tmp_path}/profile", "--disable-background-networking", "--dump-dom"),
            )
            url = f"http://{STACK_ADDRESSES[4]}/"
            page = (await asyncio.to_thread(peer.namespace.run, *command, url, timeout=100.0, check=False)).stdout
            assert '<a href="./big.bin">big.bin</a>' in page
            assert '<a href="./a%20b%26%3Cc%3E.txt">a b&amp;&lt;c&gt;.txt</a>' in page

    require_kernel_peer("chromium")
    _run(work, tmp_path)
