"""TFTP clients of the kernel's side against the stack's server over a TAP device: curl and busybox."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tcpip_wasm.services import TftpServer

from .harness.requirements import require_kernel_peer
from .scenarios import STACK_ADDRESSES, kernel_peer

_FILE = random.Random(8).randbytes(700_000)


def test_curl_and_busybox(tmp_path: Path) -> None:
    require_kernel_peer("curl", "busybox")
    served = tmp_path / "served"
    served.mkdir()
    (served / "kernel").write_bytes(_FILE)
    arrived = tmp_path / "arrived"

    async def main() -> None:
        async with (
            kernel_peer("tap") as peer,
            asyncio.timeout(200),
            TftpServer(peer.stack, served, writable=True) as tftp,
        ):

            async def run(*command: str) -> int:
                done = await asyncio.to_thread(peer.namespace.run, *command, timeout=100.0, check=False)
                return done.returncode

            for version, host in STACK_ADDRESSES.items():
                url = f"tftp://[{host}]/kernel" if version == 6 else f"tftp://{host}/kernel"
                for options in ((), ("--tftp-blksize", "1428"), ("--tftp-no-options",)):
                    arrived.unlink(missing_ok=True)
                    assert await run("curl", "--silent", "--globoff", *options, "--output", str(arrived), url) == 0
                    assert arrived.read_bytes() == _FILE
            host = STACK_ADDRESSES[4]
            for block in ("512", "1400"):
                arrived.unlink()
                assert await run("busybox", "tftp", "-g", "-b", block, "-r", "kernel", "-l", str(arrived), host) == 0
                assert arrived.read_bytes() == _FILE
            assert await run("busybox", "tftp", "-p", "-b", "1400", "-l", str(arrived), "-r", "copy", host) == 0
            assert (served / "copy").read_bytes() == _FILE
            assert await run("busybox", "tftp", "-p", "-l", str(arrived), "-r", "copy", host) != 0
            assert await run("curl", "--silent", "--output", "/dev/null", f"tftp://{host}/none") == 68  # not found
            assert tftp.statistics.bytes_received == len(_FILE)

    asyncio.run(main())
