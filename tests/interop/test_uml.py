"""A stack and a user-mode Linux guest, over a wire that loses, delays, reorders and duplicates frames.

netem's rule holds in both directions, so a round trip takes twice the delay and each way loses its own share.
8 MB at a loss of 1 % are some 5,500 segments: dozens are lost in each run, single ones and in groups.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.links import DatagramSocketLink
from tcpip_wasm.testing import MemoryInterface

from .harness.http import download, file_server
from .harness.payload import make_payload
from .harness.requirements import require_user_mode_linux
from .harness.uml import Guest, user_mode_linux
from .harness.wire import Responder

_STACK = {4: "10.99.0.1", 6: "fd99::1"}
_GUEST = {4: "10.99.0.2", 6: "fd99::2"}
_PORT = 8080
_REPORT_PORT = 8081
_MEGABYTES = 8

# Seconds for one transfer. By the square-root law 1 % of loss and 40 ms leave some 3.6 Mbit/s: 18 s.
_TRANSFER_BOUND = 200.0

_LOSSY = "loss 1% delay 20ms"
_SHUFFLED = "delay 10ms reorder 25% 50% duplicate 5%"

_WAIT = 60.0
"""Time limit in seconds of steps that take one or two."""

# The line of `tc -s qdisc` with what a netem let through and dropped.
_SENT = re.compile(r"Sent \d+ bytes (\d+) pkt \(dropped (\d+),")

impairments = pytest.mark.parametrize("netem", [_LOSSY, _SHUFFLED], ids=["lossy", "shuffled"])
# A guest's start, a transfer and its end.
pytestmark = pytest.mark.timeout(900)

versions = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


@asynccontextmanager
async def _stack_and_guest(script: str, netem: str | None) -> AsyncIterator[tuple[NetworkStack, Guest]]:
    async with (
        user_mode_linux(script, addresses=[f"{_GUEST[4]}/24", f"{_GUEST[6]}/64"], netem=netem) as guest,
        await create_stack(seed=b"interop") as stack,
    ):
        tap = await stack.create_tap_interface(ip=[f"{_STACK[4]}/24", f"{_STACK[6]}/64"])
        link = DatagramSocketLink(guest.socket, tap)
        try:
            yield stack, guest
        finally:
            link.close()


def _impaired(report: str, netem: str) -> bool:
    """What the guest's `tc -s` says: the rule was in the path; and whether it lost frames if it is one that loses."""
    counted = _SENT.search(report)
    assert counted is not None, report
    passed, lost = map(int, counted.groups())
    assert passed > _MEGABYTES * 1_000_000 / 1500, report
    print(report)
    return (lost > 0) == ("loss" in netem)


def _until_impaired(run: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Repeat a transfer in which the guest's netem has lost no frame, which happens rarely."""
    assert any(asyncio.run(run()) for _ in range(2))


def _url(host: str) -> str:
    return f"http://[{host}]:{_PORT}/" if ":" in host else f"http://{host}:{_PORT}/"


def test_the_wire_carries_frames_without_a_stack() -> None:
    """The test answers ARP and echo requests; the round trip has the delay of both directions."""
    require_user_mode_linux()

    async def run() -> None:
        script = f"for number in 1 2 3 4; do ping -n -c 1 -W 20 {_STACK[4]} | sed 's/^/PING /'; done"
        async with user_mode_linux(script, addresses=[f"{_GUEST[4]}/24"], netem="delay 20ms") as guest:
            interface = MemoryInterface()
            responder = Responder("tap", _STACK[4])

            def answer(frame: bytes) -> None:
                reply = responder.answer(frame)
                if reply is not None:
                    interface.send(reply)

            interface.on_frame = answer
            link = DatagramSocketLink(guest.socket, interface)
            for _ in range(4):
                assert " 1 received, 0% packet loss" in await guest.line("PING 1 packets transmitted", _WAIT)
                times = await guest.line("PING rtt min/avg/max/mdev =", _WAIT)
                assert float(times.split("/")[0]) >= 40.0
            link.close()

    asyncio.run(run())


@versions
@impairments
def test_the_guest_fetches_from_the_stack(version: int, netem: str) -> None:
    """The stack is the sender here: its retransmissions repair the stream."""
    require_user_mode_linux()
    payload = make_payload(_MEGABYTES)
    # A first SYN may come before the server listens; the refusal is then curl's to try again.
    curl = "curl -s -S -f -g -o arrived --connect-timeout 20 --retry 3 --retry-connrefused"
    script = f"""
        {curl} -w 'CURL %{{speed_download}}\\n' '{_url(_STACK[version])}'
        echo SHA256 $(sha256sum < arrived)
        echo NETEM $(tc -s qdisc show dev ifb0)
    """

    async def run() -> bool:
        async with _stack_and_guest(script, netem) as (stack, guest):
            server = await stack.start_server(file_server(payload), _STACK[version], _PORT)
            speed = await guest.line("CURL", _TRANSFER_BOUND)
            digest = await guest.line("SHA256", _WAIT)
            assert digest.split()[0] == payload.sha256
            impaired = _impaired(await guest.line("NETEM", _WAIT), netem)
            print(f"{netem}, IPv{version}: stack to guest {float(speed) * 8e-6:.2f} Mbit/s")
            server.close()
            await server.wait_closed()
            return impaired

    _until_impaired(run)


@versions
@impairments
def test_the_stack_fetches_from_the_guest(version: int, netem: str, tmp_path: Path) -> None:
    """The stack is the receiver here: it reorders the segments and acknowledges selectively."""
    require_user_mode_linux()
    payload = make_payload(_MEGABYTES)
    folder = payload.write_to(tmp_path).parent

    async def run() -> bool:
        # The daemon listens, on IPv4 and IPv6, by the time busybox returns.
        script = f"""
            busybox httpd -p {_PORT} -h {folder} && echo READY
            busybox nc -l -p {_REPORT_PORT} -e /usr/bin/env tc -s qdisc show dev vec0 root
        """
        async with _stack_and_guest(script, netem) as (stack, guest):
            await guest.line("READY", _WAIT)
            async with asyncio.timeout(_TRANSFER_BOUND):
                streams = await stack.open_connection(_GUEST[version], _PORT)
                result = await download(*streams, "/payload")
            assert result.sha256 == payload.sha256
            reader, writer = await stack.open_connection(_GUEST[version], _REPORT_PORT)
            async with asyncio.timeout(_WAIT):
                impaired = _impaired((await reader.read()).decode(), netem)
            writer.close()
            print(f"{netem}, IPv{version}: guest to stack {result.gigabits_per_second * 1000:.2f} Mbit/s")
            return impaired

    _until_impaired(run)
