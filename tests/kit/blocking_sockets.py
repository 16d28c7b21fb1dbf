"""The kernel's network or a stack's, by the same names of the `socket` module, so that one test checks both."""

from __future__ import annotations

import socket as real
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tcpip_wasm.compat import StackThread, polyfill_socket
from tcpip_wasm.compat import socket as stack_socket
from tests.kit import stacks as stack_kit

BOUND = 60.0
"""Time limit of a blocking call in seconds."""

ASLEEP = 0.02
"""Seconds for which a blocked thread stays asleep: one that waits for the interpreter lock wakes up every 5 ms."""


@contextmanager
def network(kind: str) -> Iterator[Any]:
    """Yield the `socket` module of the machine (``kernel``) or of a new stack (``stack``)."""
    if kind == "kernel":
        yield real
        return
    with StackThread(loop_factory=stack_kit.loop_factory) as thread:
        host = stack_socket.use(thread)
        try:
            yield stack_socket
        finally:
            stack_socket.leave(host)


@contextmanager
def polyfilled(kind: str) -> Iterator[None]:
    """Let the `socket` module use the machine's network (``kernel``) or a new stack's (``stack``) in a block."""
    if kind == "kernel":
        yield
        return
    machine = real.socket
    with StackThread(loop_factory=stack_kit.loop_factory) as thread, polyfill_socket(thread):
        assert real.socket is not machine
        yield


class Background:
    """A function in a thread, with its result."""

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
        """Wait for the function's end, and return or raise its result.

        Raises:
            AssertionError: it does not end.
        """
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._outcome[0]

    def wait_until_blocked(self) -> None:
        """Wait until the function blocks in a system call, or has ended."""
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
        """Return the number of the thread's current sleep, from 1 on; 0 if it is awake, None if it has ended."""
        try:
            with open(f"/proc/self/task/{self._thread.native_id}/status", encoding="ascii") as status:
                fields = dict(line.split(":", 1) for line in status)
        except OSError:
            return None
        return int(fields["voluntary_ctxt_switches"]) if fields["State"].split()[0] == "S" else 0


def pair(net: Any, family: int = real.AF_INET) -> tuple[Any, Any]:
    """Return two connected blocking sockets, with the limit `BOUND` as their timeout."""
    host = "127.0.0.1" if family == real.AF_INET else "::1"
    with net.create_server((host, 0), family=family) as listener:
        client = net.create_connection(listener.getsockname()[:2], timeout=BOUND)
        server, _ = listener.accept()
    server.settimeout(BOUND)
    return client, server
