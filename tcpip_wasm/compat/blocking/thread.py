"""Stacks in a thread of their own, for code that blocks: `StackThread`, and `VirtualHost`, a stack for other threads.

Owns the thread and its loop, and `VirtualHost.call`, the only entry from other threads. It knows nothing of sockets.
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
from warnings import warn

from tcpip_wasm.errors import NetworkError, StackClosedError, network_error
from tcpip_wasm.stack import NetworkStack, create_stack

T = TypeVar("T")
SetUp = Callable[[], Awaitable[NetworkStack] | AbstractAsyncContextManager[NetworkStack]]

ALIVE_POLL: Final = 0.5
"""Seconds between two checks that the loop on which a call waits is still open."""

CLOSE_TIMEOUT: Final = 10.0
"""Seconds that the thread may take to end."""

EXIT_TIMEOUT: Final = 3.0
"""Seconds that the exit of `setup`'s context manager may take while the stack is open, and as long again after the
stack was closed; then it is cancelled."""


class VirtualHost:
    """A stack, for code in other threads.

    Args:
        stack: the stack; its loop runs in another thread.

    Attributes:
        stack: the stack; only code in its loop's thread may use it.
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
        """Whether the caller runs on the stack's own loop, and must not wait for it."""
        return asyncio._get_running_loop() is self.loop  # noqa: SLF001  the only call that does not raise

    @property
    def is_in_other_process(self) -> bool:
        """Whether the stack runs in another process: this one was forked from it, and has no thread that runs it."""
        return os.getpid() != self._process

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the stack's loop, and return or raise its result.

        Args:
            coroutine: what to run.
            timeout: seconds after which it is cancelled; None sets no limit.

        Raises:
            TimeoutError: it took longer.
            OSError: ``ENETDOWN`` in a process that was forked from the stack's.
            StackClosedError: the loop is closed, or was closed before the coroutine returned.
            RuntimeError: called on the loop itself, which would wait for itself.
        """
        if self.is_inside:
            coroutine.close()
            raise RuntimeError("a blocking call on the loop of its own stack would never end")
        if self.is_in_other_process:
            coroutine.close()
            raise network_error(errno.ENETDOWN, "the stack runs in the process that this one was forked from")
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:
            coroutine.close()
            raise _loop_ended() from None
        try:
            return self._wait(future, timeout)
        except BaseException:
            future.cancel()
            raise

    def _wait(self, future: Future[T], timeout: float | None) -> T:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = ALIVE_POLL if until is None else min(ALIVE_POLL, until - time.monotonic())
            try:
                return future.result(max(left, 0))
            except CancelledError:
                raise _loop_ended() from None
            except TimeoutError:
                if future.done():
                    return future.result()  # it ended in the meantime, or the coroutine raised TimeoutError itself
            if self.loop.is_closed():
                raise _loop_ended()
            if until is not None and time.monotonic() >= until:
                raise TimeoutError("timed out")

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Schedule a function on the loop from any thread; do nothing if the loop is closed or in another process."""
        if self.is_in_other_process:
            return
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback, *arguments)

    @property
    def is_elsewhere(self) -> bool:
        """Deprecated name of `is_in_other_process`."""
        warn("VirtualHost.is_elsewhere is now is_in_other_process", DeprecationWarning, stacklevel=2)
        return self.is_in_other_process

    def tell(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Deprecated name of `call_soon`."""
        warn("VirtualHost.tell is now call_soon", DeprecationWarning, stacklevel=2)
        self.call_soon(callback, *arguments)


def _loop_ended() -> StackClosedError:
    return StackClosedError(errno.ECONNABORTED, "the stack's loop has ended")


class StackThread(VirtualHost):
    """A thread with an event loop on which stacks run; a context manager that closes itself.

    Args:
        setup: creates the stack: a coroutine function, such as `create_stack` or one that creates interfaces and
            cables, too, or a function that returns an asynchronous context manager, which is exited at the end. Other
            stacks may run on the same loop, each with a `VirtualHost` of its own.
        loop_factory: creates the loop, such as `uvloop.new_event_loop`; None creates asyncio's default.
        timeout: seconds that `setup` may take.

    Raises:
        TimeoutError: `setup` took longer, with ``ETIMEDOUT`` and a text with the limit.
        BaseException: the exception that `setup` raised; the thread has ended then.
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
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="virtual stack", daemon=True)
        self._thread.start()
        try:
            super().__init__(self._wait_for_setup())
        except BaseException:
            self._end(CLOSE_TIMEOUT)
            raise

    def _wait_for_setup(self) -> NetworkStack:
        try:
            return self._ready.result(self._timeout + CLOSE_TIMEOUT)
        except TimeoutError:
            if self._ready.done():
                raise  # raised by `setup`, or by `_main` with the limit
            raise self._setup_timed_out() from None  # `setup` blocks the thread, so that the loop cannot cancel it

    def _setup_timed_out(self) -> NetworkError:
        return network_error(errno.ETIMEDOUT, f"setup did not create the stack within {self._timeout} s")

    def __enter__(self) -> StackThread:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close the stacks and end the thread: calls that block on one of their sockets raise. Idempotent.

        Args:
            timeout: seconds to wait for the thread to end.

        Raises:
            TimeoutError: it has not ended by then; the thread is a daemon, so the process can end without it.
            RuntimeError: called in the thread itself.
            BaseException: the exception that the exit of `setup`'s context manager raised.
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
        if self._own_loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # it has ended already
                self._own_loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._main())
        except BaseException as error:
            if self._ready.done():
                self._failure = error
            else:
                self._ready.set_exception(error)

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._own_loop = asyncio.get_running_loop()
        exits = AsyncExitStack()
        try:
            async with asyncio.timeout(self._timeout) as limit:
                made = self._setup()
                if isinstance(made, AbstractAsyncContextManager):
                    stack = await exits.enter_async_context(made)
                else:
                    stack = await exits.enter_async_context(await made)
            if not isinstance(stack, NetworkStack):
                raise TypeError(f"setup must return a stack, not {type(stack).__name__}")
        except BaseException as error:
            await exits.aclose()
            if isinstance(error, TimeoutError) and limit.expired():
                raise self._setup_timed_out() from None
            raise
        self._ready.set_result(stack)
        await self._stop.wait()
        ending = asyncio.create_task(exits.aclose())
        if not (await asyncio.wait([ending], timeout=EXIT_TIMEOUT))[0]:
            await stack.aclose()  # ends an exit that waits for a peer, or for a thread that is blocked on the stack
            if not (await asyncio.wait([ending], timeout=EXIT_TIMEOUT))[0]:
                ending.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await ending
        finally:
            await stack.aclose()


def host_of(target: NetworkStack | VirtualHost) -> VirtualHost:
    """Return the host of a stack, or the argument if it is a host.

    Raises:
        TypeError: it is neither a stack nor a host.
    """
    if isinstance(target, VirtualHost):
        return target
    if isinstance(target, NetworkStack):
        return VirtualHost(target)
    raise TypeError(f"expected a StackThread, a VirtualHost or a NetworkStack, not {type(target).__name__}")
