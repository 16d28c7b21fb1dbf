"""Stacks in a thread of their own, for code that blocks: `StackThread`, and `VirtualHost`, a stack seen from outside.

Owns the thread and its loop, and the one way in from other threads: `VirtualHost.call`. It knows nothing of sockets.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any, Final, TypeVar

from tcpip_wasm.errors import NetworkError, StackClosedError, network_error
from tcpip_wasm.stack import NetworkStack, create_stack

T = TypeVar("T")
SetUp = Callable[[], Awaitable[NetworkStack] | AbstractAsyncContextManager[NetworkStack]]

PATIENCE: Final = 0.5
"""Seconds between two looks whether a loop that is to answer is still there: one that is closed answers no more."""

CLOSING: Final = 10.0
"""Seconds that a thread may take to end."""

GRACE: Final = 3.0
"""Seconds that `setup`'s context manager may take to leave while the stack lives, and as long again without it; then
it is cancelled."""


class VirtualHost:
    """A stack as code in other threads sees it.

    Args:
        stack: the stack; its loop runs in some thread.

    Attributes:
        stack: the stack, not to be touched outside its loop's thread.
    """

    def __init__(self, stack: NetworkStack) -> None:
        self.stack = stack
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.stack!r}>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The stack's event loop."""
        return self.stack.loop

    @property
    def is_inside(self) -> bool:
        """Whether the caller is on the stack's own loop, and must not wait for it."""
        return asyncio._get_running_loop() is self.loop  # noqa: SLF001  the only call that does not raise

    @property
    def is_elsewhere(self) -> bool:
        """Whether the stack lives in another process: this one was forked from it, and has no thread to run it."""
        return os.getpid() != self._process

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the stack's loop, and wait for what it returns or raises.

        Args:
            coroutine: what to run.
            timeout: seconds after which it is cancelled; None waits as long as it takes.

        Raises:
            TimeoutError: it took too long.
            OSError: ``ENETDOWN`` in a process that was forked from the stack's.
            StackClosedError: the loop is gone, or ended before the coroutine did.
            RuntimeError: called on the loop itself, which would wait for ever.
        """
        if self.is_inside:
            coroutine.close()
            raise RuntimeError("a blocking call on the loop of its own stack would never end")
        if self.is_elsewhere:
            coroutine.close()
            raise network_error(errno.ENETDOWN, "the stack lives in the process that this one was forked from")
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:
            coroutine.close()
            raise _gone() from None
        try:
            return self._wait(future, timeout)
        except BaseException:
            future.cancel()
            raise

    def _wait(self, future: Future[T], timeout: float | None) -> T:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = PATIENCE if until is None else min(PATIENCE, until - time.monotonic())
            try:
                return future.result(max(left, 0))
            except CancelledError:
                raise _gone() from None
            except TimeoutError:
                if future.done():
                    return future.result()  # it came meanwhile, or the time-out is the coroutine's own
            if self.loop.is_closed():
                raise _gone()
            if until is not None and time.monotonic() >= until:
                raise TimeoutError("timed out")

    def tell(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have a function called on the loop soon, if the loop is still there and in this process. Any thread may."""
        if self.is_elsewhere:
            return
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback, *arguments)


def _gone() -> StackClosedError:
    return StackClosedError(errno.ECONNABORTED, "the stack's loop has ended")


class StackThread(VirtualHost):
    """A thread with an event loop on which stacks live. As a context manager it closes itself.

    Args:
        setup: makes the stack: a coroutine function, such as `create_stack` or one that makes interfaces and cables,
            too, or a function that gives an asynchronous context manager, which is left at the end. Other stacks may
            live on the same loop; `VirtualHost` makes a host of each.
        loop_factory: makes the loop, such as `uvloop.new_event_loop`; None is asyncio's own.
        timeout: seconds that `setup` may take.

    Raises:
        TimeoutError: `setup` took longer, with ``ETIMEDOUT`` and a text that says how long it was given.
        BaseException: whatever `setup` raised; then there is no thread.
    """

    def __init__(
        self,
        setup: SetUp = create_stack,
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._setup = setup
        self._loop_factory = loop_factory
        self._timeout = timeout
        self._ready: Future[NetworkStack] = Future()
        self._stop: asyncio.Event | None = None
        self._own: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="virtual stack", daemon=True)
        self._thread.start()
        try:
            super().__init__(self._wait_for_setup())
        except BaseException:
            self._end(CLOSING)
            raise

    def _wait_for_setup(self) -> NetworkStack:
        try:
            return self._ready.result(self._timeout + CLOSING)
        except TimeoutError:
            if self._ready.done():
                raise  # the set-up's own, or with a text
            raise self._too_slow() from None  # it blocks the thread, so that its loop cannot end it

    def _too_slow(self) -> NetworkError:
        return network_error(errno.ETIMEDOUT, f"setup has not made the stack within {self._timeout} s")

    def __enter__(self) -> StackThread:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, timeout: float = CLOSING) -> None:
        """Close the stacks, end the thread: what is blocked on one of its sockets raises. Idempotent.

        Args:
            timeout: seconds to wait for the end.

        Raises:
            TimeoutError: it has not ended by then; the thread is a daemon and does not hold the process.
            RuntimeError: called in the thread itself.
            BaseException: what `setup`'s context manager raised at its end.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a thread cannot wait for its own end")
        self._end(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"the stack's thread did not end within {timeout} s")
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _end(self, timeout: float) -> None:
        if self._own is not None and self._stop is not None:
            with suppress(RuntimeError):  # it has ended already
                self._own.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._live())
        except BaseException as error:
            if self._ready.done():
                self._failure = error
            else:
                self._ready.set_exception(error)

    async def _live(self) -> None:
        self._stop = asyncio.Event()
        self._own = asyncio.get_running_loop()
        exits = AsyncExitStack()
        try:
            async with asyncio.timeout(self._timeout) as limit:
                made = self._setup()
                if isinstance(made, AbstractAsyncContextManager):
                    stack = await exits.enter_async_context(made)
                else:
                    stack = await exits.enter_async_context(await made)
            if not isinstance(stack, NetworkStack):
                raise TypeError(f"setup must make a stack, not {type(stack).__name__}")
        except BaseException as error:
            await exits.aclose()
            if isinstance(error, TimeoutError) and limit.expired():
                raise self._too_slow() from None
            raise
        self._ready.set_result(stack)
        await self._stop.wait()
        ending = asyncio.create_task(exits.aclose())
        if not (await asyncio.wait([ending], timeout=GRACE))[0]:
            await stack.aclose()  # somebody waits for a peer, or for a thread that is blocked on the stack
            if not (await asyncio.wait([ending], timeout=GRACE))[0]:
                ending.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await ending
        finally:
            await stack.aclose()


def host_of(target: NetworkStack | VirtualHost) -> VirtualHost:
    """Return the host that a caller means by a stack or a thread.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(target, VirtualHost):
        return target
    if isinstance(target, NetworkStack):
        return VirtualHost(target)
    raise TypeError(f"expected a StackThread, a VirtualHost or a NetworkStack, not {type(target).__name__}")
