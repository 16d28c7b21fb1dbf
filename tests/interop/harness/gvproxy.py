"""gvproxy, the virtual network of Podman's machines: a switch, a TCP of its own (gVisor's), DHCP and DNS for a guest.

Owns the program and its process. It is in no distribution: Go builds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.kit.polling import poll

from .go import go_install

__all__ = ["GATEWAY", "GUEST", "GUEST_MAC", "HOST", "gvproxy", "require_gvproxy"]

GATEWAY = "192.168.127.1"
GUEST = "192.168.127.2"
GUEST_MAC = "5a:94:ef:e4:0c:ee"
"""Of the guest that gets the address `GUEST`."""
HOST = "192.168.127.254"
"""At this address the guest reaches the loopback of the machine."""

_MODULE = "github.com/containers/gvisor-tap-vsock/cmd/gvproxy@v0.8.9"


def require_gvproxy() -> Path:
    """Skip where there is neither the program nor Go, and return its path."""
    program = go_install("gvproxy", _MODULE)
    if program is None:
        pytest.skip("gvproxy is in no distribution, and go, which builds it, is not installed")
    return program


@asynccontextmanager
async def gvproxy(
    program: Path, kind: str, scheme: str, path: Path, *options: str, mtu: int = 1500
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run gvproxy, which serves one guest and ends with it, and yield its process.

    Args:
        program: its path.
        kind: of guests: ``qemu``, ``bess`` or ``vfkit``.
        scheme: of the socket: ``unix``, ``unixpacket`` or ``unixgram``.
        path: of the socket, which does not exist yet.
        options: further ones.
        mtu: of its network, in bytes.
    """
    process = await asyncio.create_subprocess_exec(
        str(program),
        *("-mtu", str(mtu), "-ssh-port", "-1", f"-listen-{kind}", f"{scheme}://{path}", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await poll(lambda: path.exists() or process.returncode is not None)
        assert process.returncode is None, f"gvproxy ended with {process.returncode}"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
