"""`run`: runs a whole program over a stack, as `asyncio.run` does over the machine's network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tcpip_wasm.compat.loop.polyfill import polyfill
from tcpip_wasm.compat.route import RouteLike
from tcpip_wasm.stack import NetworkStack, create_stack


def run(
    main: Coroutine[Any, Any, Any],
    *,
    stack: NetworkStack | Callable[[], Awaitable[NetworkStack]] | None = None,
    route: RouteLike = None,
    strict: bool = False,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Any:
    """Run a coroutine with a stack instead of the machine's network, and return its result.

    Args:
        main: the program.
        stack: a stack, on whose loop the program then runs; or a function that creates one, such as a coroutine
            function, which is called on a new loop and whose stack is closed at the end; None creates one with a
            loopback interface only.
        route, strict: see `NetworkStack.polyfill`.
        debug: as for `asyncio.run`; only with a new loop.
        loop_factory: makes the new loop, such as `uvloop.new_event_loop`.

    Returns:
        The result of `main`. While the stack's loop runs, an awaitable for it, since a running loop cannot be run.

    Raises:
        TypeError: `main` is not a coroutine.
        RuntimeError: another loop runs in this thread.
        ValueError: `debug` or `loop_factory` with a stack, which has a loop already.
    """
    if not asyncio.iscoroutine(main):
        raise TypeError(f"main must be a coroutine, such as main() makes (run(main()), not run(main)), not {main!r}")
    if isinstance(stack, NetworkStack):
        if debug is not None or loop_factory is not None:
            main.close()
            raise ValueError("debug, loop_factory: the stack has its loop already")
        inside = _inside(main, stack, route, strict)
        if stack.loop.is_running():
            return inside
        return stack.loop.run_until_complete(inside)
    if stack is not None and not callable(stack):
        main.close()
        raise TypeError(f"stack must be a NetworkStack, a function that makes one, or None, not {stack!r}")
    make = stack or create_stack
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  the only call that does not raise
        main.close()
        raise RuntimeError(
            "compat.run() makes an event loop, and one runs in this thread already, as it does in a notebook: there, "
            "make a stack by `await create_stack()`, and await compat.run(main(), stack=stack)"
        )

    async def with_own_stack() -> Any:
        async with await make() as own:
            return await _inside(main, own, route, strict)

    try:
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            return runner.run(with_own_stack())
    finally:
        main.close()  # a coroutine that was never started would emit a RuntimeWarning


async def _inside(main: Coroutine[Any, Any, Any], stack: NetworkStack, route: RouteLike, strict: bool) -> Any:
    try:
        with polyfill(stack, route=route, strict=strict):
            return await main
    finally:
        main.close()
