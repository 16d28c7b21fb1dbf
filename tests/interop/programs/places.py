"""A namespace with servers, and clients on a stack that connect to them: on a loop, and in a blocking thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tcpip_wasm import NetworkStack
from tcpip_wasm.compat import StackThread, polyfill_socket
from tests.interop.harness.namespaces import Namespace
from tests.interop.scenarios import KERNEL_ADDRESSES, STACK_ADDRESSES, kernel_peer
from tests.kit import stacks as stack_kit
from tests.kit.polling import poll
from tests.kit.stacks import run

HOST = KERNEL_ADDRESSES[4]
OWN = STACK_ADDRESSES[4]


@dataclass(frozen=True)
class Place:
    """A namespace, and the folder of its servers."""

    namespace: Namespace
    folder: Path

    def run(self, client: Callable[[NetworkStack], Awaitable[None]], *, seconds: float = 250.0) -> None:
        """Run a client on a loop whose network is a new stack, joined to the namespace; it leaves no connection."""

        async def main() -> None:
            async with kernel_peer("tap", self.namespace, seed=None) as peer:
                with peer.stack.polyfill():
                    await client(peer.stack)
                # FIN cannot reach a removed device: all connections have to be closed before.
                # The servers close theirs, too, and there is no event when they have.
                await poll(lambda: (core := peer.stack.stats().core).connections == core.time_wait, seconds=seconds)

        run(main(), seconds=seconds)

    @contextmanager
    def blocking(self) -> Iterator[StackThread]:
        """Let the `socket` module's network be a new stack, joined to the namespace, for a block of code."""

        @asynccontextmanager
        async def setup() -> AsyncIterator[NetworkStack]:
            async with kernel_peer("tap", self.namespace, seed=None) as peer:
                yield peer.stack

        with StackThread(setup, loop_factory=stack_kit.loop_factory) as thread, polyfill_socket(thread):
            yield thread
