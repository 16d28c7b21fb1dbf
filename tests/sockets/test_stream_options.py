"""Options of `open_connection`, `start_server`, `start_tls`: named parameters, with the called functions' defaults.

Type checkers and editors read signatures; an option that is named but not passed on would be ignored without an error.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, create_stack
from tcpip_wasm.sockets.tcp.connect import CONNECTION_ATTEMPT_DELAY
from tcpip_wasm.sockets.tls import tls_transport as tls
from tests.kit.stacks import run


def options_of(method: Any) -> dict[str, Any]:
    parameters = inspect.signature(method).parameters.values()
    assert all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def test_options_and_defaults_are_those_of_the_called_functions() -> None:
    connect = options_of(NetworkStack.create_connection)
    assert options_of(NetworkStack.open_connection) == {
        **connect,
        "limit": 2**16,
        "happy_eyeballs_delay": CONNECTION_ATTEMPT_DELAY,
    }
    assert options_of(NetworkStack.start_server) == {**options_of(NetworkStack.create_server), "limit": 2**16}
    assert options_of(NetworkStack.start_tls) == options_of(tls.start_tls)


@pytest.mark.parametrize(
    ("method", "target", "arguments"),
    [
        (NetworkStack.open_connection, "tcpip_wasm.stack.NetworkStack.create_connection", ("192.0.2.1", 80)),
        (NetworkStack.start_server, "tcpip_wasm.stack.NetworkStack.create_server", (print, "192.0.2.1", 80)),
        (NetworkStack.start_tls, "tcpip_wasm.stack.start_tls", (None, None, None)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_option_is_passed_on(
    method: Any, target: str, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Called(Exception):
        pass

    async def record(*_: Any, **options: Any) -> Any:
        raise Called(options)

    monkeypatch.setattr(target, record)

    async def main() -> None:
        given: dict[str, Any] = {name: object() for name in options_of(method) if name != "limit"}
        async with await create_stack() as stack:
            with pytest.raises(Called) as caught:
                await method(stack, *arguments, **given)
            assert caught.value.args[0] == given

    run(main())


def test_an_unknown_option_is_a_type_error() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            method: Any = stack.open_connection
            with pytest.raises(TypeError, match="sock"):
                await method("127.0.0.1", 80, sock=None)
            method = stack.start_server
            with pytest.raises(TypeError, match="reuse_address"):
                await method(print, reuse_address=True)

    run(main())
