"""Errors that name the cause and a remedy, and invalid arguments that were accepted before."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tcpip_wasm import NetworkStack, StackClosedError, TcpipError, UdpDatagram, compat, connect, create_stack
from tcpip_wasm.compat import StackThread, polyfill_socket
from tcpip_wasm.engine import abi
from tcpip_wasm.simulation import run, run_virtually

LINK_LOCAL = "fe80::2"
SCOPE_NEEDED = "fe80::2 is link-local and needs the interface as its scope, such as fe80::2%tap0; the stack has tap0"


async def failure(awaitable: Any, kind: type[BaseException] = OSError) -> Any:
    with pytest.raises(kind) as caught:
        await awaitable
    return caught.value


# --- Nothing is attached ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tun", "tap"])
def test_a_timeout_names_an_interface_without_a_port(kind: str) -> None:
    """Frames that leave without a port are dropped; the error of a call that waits for their answer names the cause."""

    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            interface = await getattr(stack, f"create_{kind}_interface")(ip=["10.0.0.1/24", "fd00::1/64"])
            for host in ("10.0.0.2", "fd00::2"):
                for attempt in (
                    stack.open_connection(host, 80),
                    stack.connect_tcp(host, 80),
                    stack.connect_tcp(host, 80, timeout=0.5),
                    (await stack.create_ping_session(host)).ping(),
                ):
                    error = await failure(attempt)
                    assert error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH), error
                    assert f"nothing is attached to {kind}0, which drops what it sends" in str(error)
                    assert isinstance(error, TcpipError)
            assert interface.statistics().unheard > 0

    run_virtually(main())


def test_configure_names_an_interface_without_a_port() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            tap = await stack.create_tap_interface()
            assert "nothing is attached to tap0" in str(await failure(tap.configure(dhcp=True), TimeoutError))

    run_virtually(main())


def test_a_bridge_without_cables_is_named() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack, await create_stack(seed=2) as other:
            tap = await stack.create_tap_interface()
            await stack.create_bridge_interface([tap], ip="10.0.0.1/24")
            assert "nothing is attached to br0" in str(await failure(stack.open_connection("10.0.0.2", 80)))
            connect(tap, await other.create_tap_interface(ip="10.0.0.3/24"))
            assert "attached" not in str(await failure(stack.open_connection("10.0.0.2", 80)))

    run_virtually(main())


def test_a_timeout_after_closing_the_cable_names_the_interface() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as a, await create_stack(seed=2) as b:
            one, other = await a.create_tap_interface(ip="10.0.0.1/24"), await b.create_tap_interface(ip="10.0.0.2/24")
            cable = connect(one, other)
            await b.start_server(lambda reader, writer: None, port=80)
            reader, writer = await a.open_connection("10.0.0.2", 80)
            cable.close()
            writer.write(b"into nothing")
            error = await failure(reader.read())
            assert error.errno == errno.ETIMEDOUT
            assert "nothing is attached to tap0" in str(error)
            writer.transport.abort()

    run_virtually(main())


def test_with_a_port_the_error_is_unchanged() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack:
            tap = await stack.create_tap_interface(ip="10.0.0.1/24")
            frames = tap.readable
            assert "attached" not in str(await failure(stack.open_connection("10.0.0.2", 80)))
            async with asyncio.timeout(1):
                reader = frames.get_reader()
                assert await reader.read()

    run_virtually(main())


class Listening(asyncio.DatagramProtocol):
    def __init__(self, received: asyncio.Future[Exception]) -> None:
        self._received = received

    def error_received(self, exc: Exception) -> None:
        self._received.set_result(exc)


# --- Scopes -----------------------------------------------------------------------------------------------------------


def test_a_link_local_address_without_scope() -> None:
    async def main() -> None:
        async with await create_stack(seed=1) as stack, await create_stack(seed=2) as other:
            tap = await stack.create_tap_interface()
            await stack.create_tun_interface(ip="10.0.0.1/24")
            connect(tap, await other.create_tap_interface(ip="fe80::2/64"))
            await asyncio.sleep(2)  # duplicate address detection
            errors = [
                await failure(stack.open_connection(LINK_LOCAL, 80)),
                await failure((await stack.create_ping_session(LINK_LOCAL)).ping()),
                await failure(stack.open_udp(remote=(LINK_LOCAL, 53))),
                await failure(stack.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(LINK_LOCAL, 53))),
            ]
            async with await stack.open_udp() as udp:
                errors.append(await failure(udp.send(UdpDatagram(LINK_LOCAL, 53, b"lost"))))
            received: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
            transport, _ = await stack.create_datagram_endpoint(lambda: Listening(received), ("::", 0))
            transport.sendto(b"lost", (LINK_LOCAL, 53))
            errors.append(await received)
            transport.close()
            for error in errors:
                assert error.errno == errno.ENETUNREACH
                assert SCOPE_NEEDED in str(error)
            session = await stack.create_ping_session(f"{LINK_LOCAL}%tap0")
            assert (await session.ping(b"there")).payload == b"there"
        async with await create_stack(seed=1) as bare:
            assert "no interface but its loopback" in str(await failure(bare.open_connection(LINK_LOCAL, 80)))

    run_virtually(main())


# --- Tables that are full ---------------------------------------------------------------------------------------------


def test_a_second_loopback_is_refused_by_name() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            error = await failure(stack.create_loopback_interface())
            assert error.errno == errno.ENOSPC
            assert "a stack has one loopback interface, and <loopback lo0 127.0.0.1/8, ::1/128> is there" in str(error)
            for number in range(abi.MAX_INTERFACES - 1):
                await stack.create_tun_interface(ip=f"10.{number}.0.1/16")
            error = await failure(stack.create_tun_interface())
            assert "an interface more (a stack has 128 at most)" in str(error)
        async with await create_stack() as stack:
            error = await failure(stack.create_tun_interface(ip=[f"fd00:{i}::1/64" for i in range(8)]))
            assert "address fd00:7::1 (an interface has seven of IPv6 at most)" in str(error)

    asyncio.run(main())


# --- Arguments --------------------------------------------------------------------------------------------------------


def test_an_mtu_that_is_too_small_for_ipv6() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            for ip in ("fd00::1/64", ["10.0.0.1/24", "fe80::1/64"]):
                for create in (stack.create_tun_interface, stack.create_tap_interface):
                    assert "mtu: 1279 is less than the 1280" in str(await failure(create(ip=ip, mtu=1279), ValueError))
                create_bridge = stack.create_bridge_interface(ip=ip, mtu=600)
                assert "mtu: 600 is less than the 1280" in str(await failure(create_bridge, ValueError))
            assert len(stack.interfaces) == 1
            small = await stack.create_tap_interface(ip="10.0.0.1/24", mtu=600)
            assert "tap0 has an MTU of 600" in str(await failure(small.configure(slaac=True), ValueError))
            assert "tap0 has an MTU of 600" in str(await failure(small.advertise("fd00::/64"), ValueError))
            await stack.create_tun_interface(ip="fd00::1/64", mtu=1280)
            with pytest.raises(ValueError, match="mtu: 600 is less than the 1280"):
                await stack.create_bridge_interface([await stack.create_tap_interface(mtu=600)], ip="fd00:1::1/64")

    asyncio.run(main())


def test_the_mtu_of_simulated_hosts() -> None:
    async def scenario(network: Any) -> None:
        with pytest.raises(ValueError, match="mtu: 600 is less than the 1280"):
            network.host("a", "fd00::1/64", mtu=600)
        small = network.host("a", mtu=600)
        assert [address.version for address in small.addresses] == [4]
        with pytest.raises(ValueError, match="mtu: 600 is less than the 1280"):
            small.interface("fd00::1/64", mtu=600)

    run(scenario)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_negative_times_are_refused(timeout: float) -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            tap = await stack.create_tap_interface(ip="10.0.0.1/24")
            session = await stack.create_ping_session("127.0.0.1")
            for call in (
                stack.connect_tcp("127.0.0.1", 80, timeout=timeout),
                session.ping(timeout=timeout),
                tap.configure(dhcp=True, timeout=timeout),
                tap.wait_address_change(timeout=timeout),
                stack.open_connection("localhost", 80, happy_eyeballs_delay=timeout),
            ):
                assert str(timeout) in str(await failure(call, ValueError))

    asyncio.run(main())


def test_the_memory_limit_is_available() -> None:
    async def main() -> None:
        async with await create_stack(memory_limit=2**30):
            pass
        for limit in (2**30 + 1, 2**32):
            error = await failure(create_stack(memory_limit=limit), ValueError)
            assert f"memory_limit: {limit} is not within" in str(error)

    asyncio.run(main())


# --- Closed stacks and other threads ----------------------------------------------------------------------------------


def test_the_polyfill_of_a_closed_stack_is_refused() -> None:
    async def main() -> None:
        async with await create_stack() as stack:
            polyfill = stack.polyfill()
        for entered in (polyfill, stack.polyfill(), polyfill_socket(stack)):
            with pytest.raises(StackClosedError), entered:
                raise AssertionError("entered")
        loop = asyncio.get_running_loop()
        assert "create_connection" not in vars(loop), "nothing is replaced"

    asyncio.run(main())
    thread = StackThread(create_stack)
    thread.close()
    with pytest.raises(StackClosedError), polyfill_socket(thread):
        raise AssertionError("entered")


def misuses(stack: NetworkStack, writer: asyncio.StreamWriter) -> list[Callable[[], Any]]:
    return [
        lambda: writer.write(b"from elsewhere"),
        lambda: stack.add_route("10.9.0.0/16", interface=stack.interfaces[0]),
        lambda: setattr(stack, "forwarding", True),
        lambda: asyncio.run(stack.create_tun_interface()),
        lambda: asyncio.run(stack.open_udp()),
        stack.stats,
    ]


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_debug_mode_refuses_other_threads(name: str) -> None:
    """As asyncio's loops do, so that tests find the error."""
    caught: list[BaseException] = []

    def elsewhere(calls: list[Callable[[], Any]]) -> None:
        for call in calls:
            with suppress(AssertionError), pytest.raises(RuntimeError, match="Non-thread-safe operation") as one:
                call()
            caught.append(one.value)

    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        async with await create_stack() as stack:
            received = asyncio.Queue[bytes]()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await received.put(await reader.readline())
                writer.close()

            server = await stack.start_server(serve, "127.0.0.1", 80)
            _, writer = await stack.open_connection("127.0.0.1", 80)
            calls = misuses(stack, writer)
            await asyncio.to_thread(elsewhere, calls)
            assert len(caught) == len(calls)
            writer.write(b"from its own thread\n")
            assert await received.get() == b"from its own thread\n"
            writer.close()
            server.close()

    factory = pytest.importorskip(name).new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


# --- Programs ---------------------------------------------------------------------------------------------------------


def test_compat_run_requires_a_coroutine() -> None:
    async def main() -> str:
        return "done"

    for wrong in (main, None, "main"):
        with pytest.raises(TypeError, match=r"run\(main\(\)\), not run\(main\)"):
            compat.run(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stack must be"):
        compat.run(main(), stack="a stack")  # type: ignore[arg-type]
    assert compat.run(main()) == "done"

    async def notebook() -> Any:
        with pytest.raises(RuntimeError, match="notebook"):
            compat.run(main())
        async with await create_stack() as stack:
            return await compat.run(main(), stack=stack)

    assert asyncio.run(notebook()) == "done"
