"""``tcpip-wasm serve`` for Linux: a kernel in a namespace over a TAP device, and one in QEMU by the printed option."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.core_network import payload

from .harness.namespaces import network_namespace
from .harness.qemu import linux_guest
from .harness.requirements import require_kernel_peer, require_qemu

COMMAND = (sys.executable, "-m", "tcpip_wasm")

FETCH = """
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=60).read().hex())
"""


def test_the_kernel_fetches_a_file_over_a_tap_device(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")
    require_kernel_peer()
    file = payload(15, 300_000)
    (tmp_path / "file.bin").write_bytes(file)
    with network_namespace() as namespace:
        namespace.run("ip", "tuntap", "add", "tap0", "mode", "tap")
        namespace.run("ip", "address", "add", "10.0.0.9/24", "dev", "tap0")
        namespace.run("ip", "link", "set", "tap0", "up")
        server = namespace.start(*COMMAND, "serve", str(tmp_path), "--link", "tap:tap0", ready="Ctrl-C ends it")
        namespace.echoes("10.0.0.1", 2)
        fetched = namespace.run(sys.executable, "-c", FETCH, "http://10.0.0.1/file.bin").stdout
        assert hashlib.sha256(bytes.fromhex(fetched)).digest() == hashlib.sha256(file).digest()
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


@pytest.mark.guest
@pytest.mark.timeout(600)
def test_a_guest_of_qemu_fetches_a_file(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("dns")
    require_qemu("curl")
    file = payload(16, 2_000_000)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file.bin").write_bytes(file)
    command = [*COMMAND, "serve", str(folder), "--qemu", f"unix:{tmp_path / 'vm,1.sock'}"]
    script = """
ip address add 10.0.0.9/24 dev eth0
curl -s -S -f -o file http://10.0.0.1/file.bin && echo HASH $(sha256sum <file | cut -d ' ' -f 1)
"""

    async def fetched(netdev: str) -> str:
        async with linux_guest(netdev, script, programs=["curl"]) as console:
            return await console.line("HASH", 180.0)

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            option = server.stdout.readline().rstrip("\n").partition(" -netdev ")[2]
            netdev = option.replace("id=card,", "")
            assert asyncio.run(fetched(netdev)) == hashlib.sha256(file).hexdigest()
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0
        finally:
            server.kill()
