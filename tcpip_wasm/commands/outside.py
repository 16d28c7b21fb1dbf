"""What the option ``--link`` names, and how an interface is joined to it.

Owns the syntax ``tap:NAME``, ``qemu:unix:PATH``, ``qemu:tcp:HOST:PORT``, ``ws://HOST:PORT/``. Must not know the
commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tcpip_wasm.interfaces import TapInterface

if TYPE_CHECKING:
    from tcpip_wasm.links import Link

__all__ = ["Outside", "naming", "opened", "parse_outside", "until_end"]

T = TypeVar("T")

FORMS: Final = "tap:NAME, qemu:unix:PATH, qemu:tcp:HOST:PORT, ws://HOST:PORT/ or wss://HOST:PORT/"


@dataclass(frozen=True, slots=True)
class Outside:
    """Something outside of the process that an interface can be joined to.

    Attributes:
        kind: ``"tap"``, ``"qemu"`` or ``"websocket"``.
        name: the device's name, the address, or the URL.
        text: as it was given.
    """

    kind: str
    name: str
    text: str


def parse_outside(text: str) -> Outside:
    """Return what a text names.

    Raises:
        ValueError: the text has none of the forms.
    """
    kind, _, rest = text.partition(":")
    if kind == "tap" and rest:
        return Outside("tap", rest, text)
    if kind == "qemu":
        from tcpip_wasm.links.transport_address import parse_address

        parse_address(rest, kinds=("unix", "tcp"), argument="qemu")
        return Outside("qemu", rest, text)
    if kind in ("ws", "wss") and rest.startswith("//") and len(rest) > 2:
        return Outside("websocket", text, text)
    raise ValueError(f"{FORMS} is needed, not {text!r}")


@asynccontextmanager
async def opened(outside: Outside, interface: TapInterface) -> AsyncIterator[Link]:
    """Join a tap to it for the length of the block.

    Raises:
        ImportError: WebSockets need a library that is not installed; the message has the command that installs it.
        OSError, ValueError: it cannot be opened.
    """
    from tcpip_wasm import links

    link: Link
    with ExitStack() as exits:
        with naming(outside.text):
            if outside.kind == "tap":
                link = exits.enter_context(links.open_tuntap(outside.name, kind="tap")).attach(interface)
            elif outside.kind == "qemu":
                link = await links.connect_qemu(interface, outside.name)
            else:
                link = await links.connect_websocket(interface, outside.name)
        exits.callback(link.close)
        yield link


@contextmanager
def naming(text: str) -> Iterator[None]:
    """Have errors of the operating system in the block say what they are about, where they do not."""
    try:
        yield
    except OSError as error:
        if error.strerror and not error.filename:
            error.filename = text
        raise


async def until_end(opened_links: Mapping[str, Link], work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns, unless a link ends before.

    Args:
        opened_links: the links, by what is printed of them.
        work: is cancelled when a link ends.

    Raises:
        ConnectionError: a link has ended.
    """
    working = asyncio.ensure_future(work)
    waiting = {asyncio.ensure_future(link.wait_closed()): name for name, link in opened_links.items()}
    try:
        await asyncio.wait({working, *waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
    finally:
        tasks = [working, *waiting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    name = next(name for task, name in waiting.items() if not task.cancelled())
    problem = opened_links[name].error
    raise ConnectionError(f"{name}: the other side has closed the link{f' ({problem})' if problem else ''}")
