"""``tcpip-wasm`` on a TAP device in a namespace: the kernel there is the guest."""

from __future__ import annotations

import hashlib
import signal
import sys
from pathlib import Path

import pytest

from tests.kit.core_network import payload

from .harness.namespaces import network_namespace
from .harness.requirements import require_kernel_peer

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
