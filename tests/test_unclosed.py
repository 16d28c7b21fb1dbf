"""Unclosed objects warn when they are garbage-collected, as asyncio's do. Objects that their stack closed do not."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, create_stack

MAKE: dict[str, Callable[[NetworkStack], Awaitable[Any]]] = {
    "server": lambda stack: stack.start_server(lambda reader, writer: None, None, 80),
    "listener": lambda stack: stack.listen_tcp(80),
    "socket": lambda stack: stack.open_udp(port=53),
    "transport": lambda stack: stack.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 53)),
    "ping session": lambda stack: stack.create_ping_session("127.0.0.1"),
}


def seen(main: Coroutine[Any, Any, None]) -> list[warnings.WarningMessage]:
    """Run a coroutine, and return the warnings of unclosed objects, also after the loop was closed."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(main)
        gc.collect()
    return [one for one in caught if issubclass(one.category, ResourceWarning)]


def test_a_stack() -> None:
    async def main() -> None:
        await create_stack()

    (warning,) = seen(main())
    assert str(warning.message).startswith("unclosed stack <NetworkStack [<loopback lo0 127.0.0.1/8")
    assert isinstance(warning.source, NetworkStack)


@pytest.mark.parametrize("kind", MAKE)
def test_sockets_of_an_unclosed_stack(kind: str) -> None:
    async def main() -> None:
        await MAKE[kind](await create_stack())

    said = sorted(str(one.message).split(" <")[0] for one in seen(main()))
    assert said == sorted(["unclosed stack", f"unclosed {'server' if kind == 'listener' else kind}"])


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("how", ["aclose", "abort", "itself"])
def test_closed_objects_do_not_warn(kind: str, how: str) -> None:
    """Closed by their stack or by the program."""

    async def main() -> None:
        async with await create_stack() as stack:
            made = await MAKE[kind](stack)
            if how == "abort":
                stack.abort()
            elif how == "itself":
                closing = (made[0] if isinstance(made, tuple) else made).close()
                if closing is not None:
                    await closing

    assert seen(main()) == []


def test_a_connection() -> None:
    async def main() -> None:
        async with await create_stack() as stack, await stack.listen_tcp(80) as listener:
            client = await stack.connect_tcp("127.0.0.1", 80)
            await (await listener.accept()).close()
            del client

    assert seen(main()) == []


def test_objects_that_were_never_created() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            await stack.open_udp(port=53)
            for make in (
                lambda: stack.open_udp(port=53),
                lambda: stack.listen_tcp(80, "192.0.2.1"),
                lambda: stack.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 53)),
            ):
                with pytest.raises(OSError, match=r"in use|assign"):
                    await make()

    assert seen(main()) == []
