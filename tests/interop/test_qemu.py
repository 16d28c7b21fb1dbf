"""A Linux guest in QEMU whose only network card is a tap of a stack, over each of QEMU's transports."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tcpip_wasm import NetworkStack, TapInterface, create_stack
from tcpip_wasm.links import GuestListener, Link, QemuLink, bind_datagrams, connect_qemu, listen_qemu
from tests.kit.polling import poll

from .harness.http import file_server
from .harness.payload import make_payload
from .harness.qemu import linux_guest
from .harness.requirements import require_qemu

_ADDRESSES = """
ip address add 10.98.0.2/24 dev eth0
ip address add fd98::2/64 dev eth0
echo READY
"""
_BOOT = 120.0
"""Seconds. A guest takes 2 with KVM and 5 without; a busy machine gets the benefit of the doubt."""
_WAIT = 60.0
_MEGABYTES = 16

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]


@asynccontextmanager
async def _stack() -> AsyncIterator[tuple[NetworkStack, TapInterface]]:
    async with await create_stack(seed=b"qemu") as stack:
        yield stack, await stack.create_tap_interface(ip=["10.98.0.1/24", "fd98::1/64"])


def _fetch(host: str) -> str:
    """Return a script that fetches a file from the stack and prints its hash and length."""
    return f"""
curl -s -S -f -g -o file "http://{host}:8080/" && echo HASH $(sha256sum <file | cut -d ' ' -f 1)
"""


_SERVE = """
head -c {size} /dev/urandom >mine
echo MINE $(sha256sum <mine | cut -d ' ' -f 1)
nc -ll -p 9 -e cat mine &
until netstat -ltn | grep -q ':9 '; do sleep 0.1; done
echo SERVING
"""


@pytest.mark.parametrize("transport", ["listen", "connect", "tcp", "dgram"])
def test_a_guest_exchanges_files_with_the_stack(transport: str, tmp_path: Path) -> None:
    """Both directions, IPv4 and IPv6, checked by hash."""
    require_qemu("curl")

    async def run() -> None:
        payload = make_payload(_MEGABYTES)
        digest = payload.sha256
        path = tmp_path / "vm.sock"
        async with _stack() as (stack, tap):
            script = _ADDRESSES + _fetch("10.98.0.1") + _fetch("[fd98::1]") + _SERVE.format(size=8_000_000)
            listener: GuestListener | None = None
            link: Link | None = None
            if transport == "listen":
                listener = await listen_qemu(f"unix:{path}", lambda: tap)
                netdev = f"stream,server=off,addr.type=unix,addr.path={path}"
            elif transport == "tcp":
                listener = await listen_qemu("tcp:127.0.0.1:0", lambda: tap)
                port = listener.address.rpartition(":")[2]
                netdev = f"stream,server=off,addr.type=inet,addr.host=127.0.0.1,addr.port={port}"
            elif transport == "connect":
                netdev = f"stream,server=on,addr.type=unix,addr.path={path}"
            else:
                guest = tmp_path / "guest"
                link = await bind_datagrams(tap, f"unix:{path}", f"unix:{guest}")
                netdev = f"dgram,local.type=unix,local.path={guest},remote.type=unix,remote.path={path}"
            server = await stack.start_server(file_server(payload), None, 8080)
            async with server, linux_guest(netdev, script, programs=["curl"]) as console:
                if transport == "connect":
                    link = await _connect(tap, f"unix:{path}")
                await console.line("READY", _BOOT)
                for _ in range(2):
                    assert await console.line("HASH", _WAIT) == digest
                expected = await console.line("MINE", _WAIT)
                await console.line("SERVING", _WAIT)
                for host in ("10.98.0.2", "fd98::2"):
                    async with asyncio.timeout(_WAIT):
                        reader, writer = await stack.open_connection(host, 9)
                        arrived = await reader.read(-1)
                        writer.close()
                        await writer.wait_closed()
                    assert len(arrived) == 8_000_000
                    assert hashlib.sha256(arrived).hexdigest() == expected
            # The machine is gone: so is its stream, while datagrams have no end.
            if listener is not None:
                async with asyncio.timeout(_WAIT):
                    while listener.links:
                        await listener.links[0].wait_closed()
                await listener.aclose()
            elif transport == "connect":
                assert link is not None
                await asyncio.wait_for(link.wait_closed(), _WAIT)
            else:
                assert link is not None
                link.close()

    asyncio.run(run())


async def _connect(tap: TapInterface, address: str) -> QemuLink:
    """Connect as soon as QEMU listens."""

    async def attempt() -> QemuLink | None:
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return await connect_qemu(tap, address)
        return None

    return await poll(attempt, seconds=_BOOT)
