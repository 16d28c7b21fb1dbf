"""``tcpip-wasm ping``: echo requests from a stack of its own."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from itertools import count
from statistics import mean

from tcpip_wasm.commands.outside import opened, until_end
from tcpip_wasm.commands.running import say
from tcpip_wasm.errors import IcmpError
from tcpip_wasm.interfaces import TapInterface
from tcpip_wasm.sockets.ping import PingSession
from tcpip_wasm.stack import NetworkStack, create_stack

__all__ = ["ping"]


async def ping(options: argparse.Namespace) -> int:
    """Send the requests, print what comes back, and return 0 where a reply came, else 1.

    Raises:
        OSError: the link cannot be opened or has ended, no lease, no address of the name, or no route.
        ValueError: a malformed host.
    """
    times: list[float] = []
    async with await create_stack() as stack:
        tap = await stack.create_tap_interface(ip=None if options.ip == "dhcp" else str(options.ip))
        async with opened(options.link, tap) as link:
            with suppress(asyncio.CancelledError):  # by a signal: that is how it ends without a count
                await until_end({options.link.text: link}, _ping(stack, tap, options, times))
    return 0 if times else 1


async def _ping(stack: NetworkStack, tap: TapInterface, options: argparse.Namespace, times: list[float]) -> None:
    if options.ip == "dhcp":
        lease = await tap.configure(dhcp=True)
        say(f"address {lease.address}")
    if options.gateway is not None:
        stack.add_route("0.0.0.0/0" if options.gateway.version == 4 else "::/0", via=str(options.gateway))
    if options.name_server is not None:
        stack.name_servers = [str(options.name_server)]
    sent = 0
    async with await stack.create_ping_session(options.host) as session:
        try:
            for sent in range(1, options.count + 1) if options.count else count(1):
                if sent > 1:
                    await asyncio.sleep(options.interval)
                await _request(session, sent, options.timeout, times)
        finally:
            _summarize(session.host, sent, times)


async def _request(session: PingSession, number: int, timeout: float, times: list[float]) -> None:
    try:
        reply = await session.ping(timeout=timeout)
    except TimeoutError:
        say(f"request {number}: no reply within {timeout:g} s")
    except IcmpError as error:
        say(f"request {number}: {error.strerror or error}")
    else:
        times.append(reply.round_trip_time)
        say(f"request {number}: {len(reply.payload)} bytes from {reply.host} after {_milliseconds(times[-1])} ms")


def _summarize(host: str, sent: int, times: list[float]) -> None:
    lost = 100 * (sent - len(times)) / sent if sent else 0.0
    text = f"{host}: {sent} sent, {len(times)} received, {lost:.0f} % lost"
    if times:
        text += ", round trip " + "/".join(_milliseconds(each) for each in (min(times), mean(times), max(times)))
        text += " ms (least, mean, most)"
    say(text)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3f}"
