"""The kernel's network and a stack's behind the same module of names, so that one test judges both."""

from __future__ import annotations

import socket as real
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tcpip_wasm.compat import StackThread
from tcpip_wasm.compat import socket as stand_in
from tests import support_stacks

BOUND = 10.0
"""Seconds after which what blocks has hung."""


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
        """Wait until the function blocks in a call of the kernel, or has ended: its thread is asleep then."""
        self.running.wait(BOUND)
        path = f"/proc/self/task/{self._thread.native_id}/stat"
        for _ in range(2000):
            try:
                with open(path, encoding="ascii") as stat:
                    if stat.read().rpartition(")")[2].split()[0] == "S":
                        return
            except OSError:
                return
            threading.Event().wait(0.001)
        raise AssertionError("it never blocked")


def pair(net: Any, family: int = real.AF_INET) -> tuple[Any, Any]:
    """Return two connected sockets; both block, and have a time-out that says that a test hangs."""
    host = "127.0.0.1" if family == real.AF_INET else "::1"
    with net.create_server((host, 0), family=family) as listener:
        client = net.create_connection(listener.getsockname()[:2], timeout=BOUND)
        server, _ = listener.accept()
    server.settimeout(BOUND)
    return client, server
