"""The kernel's network and a stack's behind the same module of names, so that one test judges both."""

from __future__ import annotations

import socket as real
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tcpip_wasm.compat import StackThread, polyfill_socket
from tcpip_wasm.compat import socket as stand_in
from tests import support_stacks

BOUND = 60.0
"""Seconds after which what blocks has hung."""

ASLEEP = 0.02
"""Seconds for which a thread that blocks sleeps on: one that only waits for the interpreter wakes up every 5 ms."""


@contextmanager
def network(kind: str) -> Iterator[Any]:
    """Yield the `socket` module of the machine (``kernel``) or of a new stack (``stack``)."""
    if kind == "kernel":
        yield real
        return
    with StackThread(loop_factory=support_stacks.loop_factory) as thread:
        host = stand_in.use(thread)
        try:
            yield stand_in
        finally:
            stand_in.leave(host)


@contextmanager
def polyfilled(kind: str) -> Iterator[None]:
    """Let the `socket` module be the machine's (``kernel``), or a new stack's (``stack``), for a block."""
    if kind == "kernel":
        yield
        return
    machine = real.socket
    with StackThread(loop_factory=support_stacks.loop_factory) as thread, polyfill_socket(thread):
        assert real.socket is not machine
        yield


class Background:
    """A function in a thread, whose outcome is wanted."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._outcome: list[Any] = []
        self._error: BaseException | None = None
        self.running = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(function, arguments), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.running.set()
        try:
            self._outcome.append(function(*arguments))
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """Wait for the function's end, and return or raise what it has.

        Raises:
            AssertionError: it hangs.
        """
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._outcome[0]

    def wait_until_blocked(self) -> None:
        """Wait until the function blocks in a call of the kernel, or has ended: its thread sleeps, and sleeps on."""
        assert self.running.wait(BOUND), "it never began"
        until = time.monotonic() + BOUND
        before = self._sleep()
        while time.monotonic() < until:
            threading.Event().wait(ASLEEP)
            after = self._sleep()
            if after is None or after == before != 0:
                return
            before = after
        raise AssertionError("it never blocked")

    def _sleep(self) -> int | None:
        """Which of its sleeps the thread is in, counted from 1, or 0 if it is awake; None if it has ended."""
        try:
            with open(f"/proc/self/task/{self._thread.native_id}/status", encoding="ascii") as status:
                fields = dict(line.split(":", 1) for line in status)
        except OSError:
            return None
        return int(fields["voluntary_ctxt_switches"]) if fields["State"].split()[0] == "S" else 0


def pair(net: Any, family: int = real.AF_INET) -> tuple[Any, Any]:
    """Return two connected sockets; both block, and have a time-out that says that a test hangs."""
    host = "127.0.0.1" if family == real.AF_INET else "::1"
    with net.create_server((host, 0), family=family) as listener:
        client = net.create_connection(listener.getsockname()[:2], timeout=BOUND)
        server, _ = listener.accept()
    server.settimeout(BOUND)
    return client, server
