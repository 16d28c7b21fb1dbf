"""Guests of v86 in Node by v86's own network clients: Wisp, and frames over a WebSocket.

Each guest boots iPXE and fetches a file from a stack; what is in its memory then is compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import WebSocketRelay, WispServer, bridge_port
from tcpip_wasm.services import DhcpServer, HttpServer
from tests.kit.core_network import payload
from tests.kit.node import require_package
from tests.kit.stacks import run

from .harness.called import called_program
from .harness.requirements import missing
from .wisp_peers import MIB, PEERS

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

HOST = "10.0.0.1"
FILE = payload(MIB, 86)


def _require_v86() -> str:
    """Return the command of Node, for which v86 is installed with what its guest boots."""
    node = require_package("v86")
    for image in ("/usr/share/seabios/bios.bin", "/usr/share/seabios/vgabios-stdvga.bin", "/usr/lib/ipxe/ipxe.lkrn"):
        if not Path(image).exists():
            missing(f"{image} is not installed")
    return node


class Fetched:
    """An application that counts the guests that have fetched their file."""

    def __init__(self) -> None:
        self.count = 0
        self.changed = asyncio.Condition()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"done"})
            async with self.changed:
                self.count += 1
                self.changed.notify_all()

    async def wait(self, count: int) -> None:
        """Wait until so many have."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.count >= count)


@asynccontextmanager
async def _served(stack: NetworkStack, folder: Path) -> AsyncIterator[Fetched]:
    """Serve the file of the guests, and what they fetch when they have it."""
    (folder / "file").write_bytes(FILE)
    fetched = Fetched()
    async with HttpServer(stack, folder), HttpServer(stack, fetched, port=8080):
        yield fetched


def _guest(node: str, relay: str) -> list[str]:
    """Return the command of a guest whose network is at a URL."""
    given = {
        "relay": relay,
        "file": f"http://{HOST}/file",
        "done": f"http://{HOST}:8080/",
        "size": len(FILE),
        "first": FILE[:64].hex(),
    }
    return [node, str(PEERS / "v86_guest.mjs"), json.dumps(given)]


def test_a_guest_fetches_a_file_by_wisp(tmp_path: Path) -> None:
    """v86 ends the guest's TCP itself, and has a Wisp stream for each connection."""
    node = _require_v86()

    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            await stack.create_tun_interface(ip=f"{HOST}/24")  # nothing is at its other end
            async with (
                _served(stack, tmp_path) as fetched,
                WispServer(stack) as server,
                called_program(_guest(node, server.url.replace("ws://", "wisp://"))) as guest,
            ):
                await fetched.wait(1)
                assert hashlib.sha256(FILE).hexdigest() in await guest.call("find")

    run(main(), seconds=300)


def test_two_guests_fetch_a_file_by_frames(tmp_path: Path) -> None:
    """They are ports of one bridge, with addresses by DHCP."""
    node = _require_v86()

    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            bridge = await stack.create_bridge_interface(ip=f"{HOST}/24")
            async with (
                _served(stack, tmp_path) as fetched,
                DhcpServer(bridge, pool=("10.0.0.100", "10.0.0.109")) as dhcp,
                WebSocketRelay(bridge_port(stack, bridge)) as relay,
                called_program(_guest(node, relay.url)) as one,
                called_program(_guest(node, relay.url)) as other,
            ):
                await fetched.wait(2)
                assert len(dhcp.leases) == 2
                for guest in (one, other):
                    assert hashlib.sha256(FILE).hexdigest() in await guest.call("find")

    run(main(), seconds=500)
